"""Measures trained scorers: their accuracy on each kind of pair, and what they should not mind but do."""

from __future__ import annotations

import platform
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from transformers import CLIPTokenizer

from emoji_model import scorer
from emoji_model.distortions import harmless
from emoji_model.pools import Pool, style_means
from emoji_model.preferences import PAIRS, SCHEDULE, compare, draw_batch, look, score_all
from emoji_model.sources import STYLES
from emoji_model.subjects import Subjects
from emoji_model.text import tokens
from pahi_rt.errors import PahiError
from pahi_rt.machine import cpu_name

LEAST_ACCURACY = {"real": 0.9, "match": 0.9, "clean": 0.9, "sample": 0.85}
"""Kind of pair -> the accuracy that a scorer needs to be installed. The halves of `sample` are alike: their squared
errors may differ by a third only (docs/experiments.md)."""
MOST_SHIFT = 0.1
"""The largest shift by harmless changes that a scorer may have to be installed."""


def measure(network: scorer.Network, pool: Pool, subjects: Subjects, tokenizer: CLIPTokenizer) -> dict[str, Any]:
    """Measure accuracy on each kind of pair, how far harmless changes move the score, and what styles do to it.

    The pool's noises and tints, and the random captions and damage, are held out from training. The subjects, their
    drawings, and the kinds of wording and damage are those of training.
    """
    return {
        "hardware": f"{cpu_name() or platform.machine()}, {torch.get_num_threads()} threads",
        "held_out": "noises, tints, draws of captions and damage; not concepts, scenes, drawings or kinds of damage",
        "pair_accuracy": accuracy(network, pool, subjects, tokenizer, seed=0),
        "shift_by_harmless_changes_in_prompt_std": invariance(network, pool, subjects.labels, tokenizer),
        "style_preferences_in_prompt_std": style_preferences(network, pool, subjects.labels, tokenizer),
        "parameters": sum(p.numel() for p in network.parameters()),
    }


def require(name: str, report: dict[str, Any]) -> None:
    """Raises PahiError if a report of `measure` violates LEAST_ACCURACY or MOST_SHIFT, or lacks the numbers."""
    pairs, shifts = (report.get(key, {}) for key in ("pair_accuracy", "shift_by_harmless_changes_in_prompt_std"))
    wrong = [f"{kind} pairs {pairs.get(kind)}" for kind in PAIRS if not pairs.get(kind, 0) >= LEAST_ACCURACY[kind]]
    wrong += [f"{change} {shift}" for change, shift in shifts.items() if not abs(shift) <= MOST_SHIFT]
    if wrong or not shifts:
        least = ", ".join(f"{accuracy} on {kind}" for kind, accuracy in LEAST_ACCURACY.items())
        needed = f"at least {least} pairs, and at most {MOST_SHIFT} by harmless changes, are needed"
        fix = f"train it longer: python -m emoji_model scorers --steps {2 * SCHEDULE.steps}"
        raise PahiError(
            f"the scorer {name} is not good enough ({', '.join(wrong) or 'not measured'}): {needed}", fix=fix
        )


@torch.no_grad()
def accuracy(
    network: scorer.Network, pool: Pool, subjects: Subjects, tokenizer: CLIPTokenizer, seed: int
) -> dict[str, float]:
    """Share of a pool's pairs whose better half scores higher."""
    rng = torch.Generator().manual_seed(seed)
    batches = (draw_batch(pool, subjects, tokenizer, 64, rng) for _ in range(24))
    parts = [compare(network, look(network, batch.pictures), batch) for batch in batches]
    return {kind: round(float((torch.cat([p[kind] for p in parts]) > 0).float().mean()), 4) for kind in PAIRS}


@torch.no_grad()
def invariance(
    network: scorer.Network, pool: Pool, labels: Sequence[str], tokenizer: CLIPTokenizer
) -> dict[str, float]:
    """Harmless change -> shift of the mean score, in standard deviations of the scores of one prompt's pictures."""
    rng = torch.Generator().manual_seed(0)
    scores: dict[str, list[Tensor]] = {}
    for label, samples in zip(labels, _gaussian(pool.samples), strict=True):
        pictures = samples / 255
        # Undo the rounding; otherwise flooring would change nothing.
        pictures = (pictures + (torch.rand(pictures.shape, generator=rng) - 0.5) / 255).clamp(0, 1)
        ids = tokens(tokenizer, [label] * len(pictures))
        for change, changed in ({"none": pictures} | harmless(pictures)).items():
            scores.setdefault(change, []).append(network(changed, ids))
    table = {change: torch.stack(rows) for change, rows in scores.items()}
    plain = table.pop("none")
    spread = plain.var(1).mean().sqrt()
    return {change: round(float((rows - plain).mean() / spread), 4) for change, rows in table.items()}


def style_preferences(
    network: scorer.Network, pool: Pool, labels: Sequence[str], tokenizer: CLIPTokenizer
) -> dict[str, Any]:
    """What the score makes of styles, in standard deviations of the scores of one subject's generated pictures.

    For drawings the mean of each style over subjects, less that of all, and the spread: the root mean square over
    subjects of what is left, for one subject and style. For generated pictures, the share of the variance that the
    style explains.
    """
    drawn = _style_scores(network, pool, labels, tokenizer)
    samples = gaussian_scores(network, pool, labels, tokenizer)
    total = samples.var(1).mean()
    means = drawn.mean(0)
    return {
        "drawings": {name: round(float(value / total.sqrt()), 4) for name, value in zip(STYLES, means, strict=True)},
        "drawings_spread": round(float((drawn - means).square().mean().sqrt() / total.sqrt()), 4),
        "generated_share": round(float(1 - _within_styles(samples, _gaussian(pool.styles)) / total), 4),
    }


def agreement(
    networks: Sequence[scorer.Network], pool: Pool, labels: Sequence[str], tokenizer: CLIPTokenizer
) -> dict[str, float]:
    """Correlation of two scorers: between a subject's generated pictures, within a style, and between the styles of its
    drawings. Without a preference, the last one is left to chance."""
    scores = [gaussian_scores(network, pool, labels, tokenizer) for network in networks]
    styles, drawn = _gaussian(pool.styles), [_style_scores(network, pool, labels, tokenizer) for network in networks]
    tables = {
        "pictures": [rows - rows.mean(1, keepdim=True) for rows in scores],
        "pictures_of_a_style": [rows - style_means(rows, styles) for rows in scores],
        "styles_of_drawings": [rows - rows.mean(0) for rows in drawn],
    }
    return {
        name: round(float(F.cosine_similarity(one.flatten(), other.flatten(), 0)), 4)
        for name, (one, other) in tables.items()
    }


def gaussian_scores(network: scorer.Network, pool: Pool, labels: Sequence[str], tokenizer: CLIPTokenizer) -> Tensor:
    """Scores [subjects, SAMPLES / 2] of the pictures that were drawn from standard Gaussian noise."""
    return score_all(network, _gaussian(pool.samples), labels, tokenizer)


def _gaussian(of_samples: Tensor) -> Tensor:
    """The second half of what a pool of one seed has for each sample [subjects, SAMPLES, ...]."""
    return of_samples[:, of_samples.shape[1] // 2 :]


def _style_scores(network: scorer.Network, pool: Pool, labels: Sequence[str], tokenizer: CLIPTokenizer) -> Tensor:
    """Mean scores [subjects, styles] of the drawings, less the subject's own mean."""
    rows = score_all(network, pool.real, labels, tokenizer).unflatten(1, (len(STYLES), -1)).mean(2)
    return rows - rows.mean(1, keepdim=True)


def _within_styles(scores: Tensor, styles: Tensor) -> Tensor:
    """Variance of scores [subjects, K] within a style, over all subjects, unbiased."""
    kinds = torch.tensor([len(row.unique()) for row in styles])
    return (scores - style_means(scores, styles)).square().sum() / (scores.shape[1] - kinds).sum()
