"""Draw every contender's pictures, and keep what was measured of them: scores, sharpness, distances, KL.

Noise is the project's own recipe, and its key is made from the prompt itself, the seed and the candidate: a prompt
gets the same noise in every column and every table, whatever other prompts are evaluated, on every machine, in
PyTorch and from a bundle.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, partial

import torch
from torch import Tensor

from pahi_rt.errors import PahiError, ScorerError
from pahi_rt.evaluate.contenders import Contender, Field
from pahi_rt.evaluate.picture_metrics import Encoder, pairwise_distance, sharpness
from pahi_rt.models.gaussians import LatentShape
from pahi_rt.noise import draw_noise
from pahi_rt.scorers import Scorer

Batch = Sequence[str]
Review = Callable[[Tensor, Batch], Tensor]
"""Pictures [B, 3, H, W] and their prompts -> checked scores [B] of one scorer."""
Track = Callable[[Sequence[Batch], str], Iterable[Batch]]
"""Batches of prompts and what is done with them -> the same batches, for a progress bar."""
DIVERSITY_SEEDS = 1 << 20
"""First seed of the pictures that only diversity is measured on."""


@dataclass(frozen=True)
class Settings:
    """How much is drawn. Raises PahiError for settings out of range."""

    seeds: int = 5
    """Pictures of each prompt and contender that are scored, one training's. The paper averages "5 runs with different
    seeds", and does not say whether these are trainings or draws."""
    diversity_seeds: int = 16
    """Pictures of one prompt whose distances are measured."""
    diversity_prompts: int = 32
    """At most so many prompts of each group, evenly spread, are drawn again for that."""
    batch: int = 16
    """Pictures drawn at once."""

    def __post_init__(self) -> None:
        why = "of one alone nothing is known about how scores vary between seeds"
        for value, least, what in (
            (self.seeds, 2, f"seeds ({why})"),
            (self.diversity_seeds, 2, "seeds for diversity"),
            (self.diversity_prompts, 1, "prompts for diversity"),
            (self.batch, 1, "pictures at once"),
        ):
            if value < least:
                raise PahiError(f"{value} is too few {what}", fix=f"use {least} or more")


@dataclass(frozen=True)
class Measurements:
    """Of M contenders, R seeds and N prompts; on the CPU."""

    scores: Mapping[str, Tensor]
    """Scorer -> float64 [M, R, N]."""
    sharpness: Tensor
    """[M, R, N]"""
    kl: Tensor
    """[M, N] nats; NaN where it cannot be known."""
    diverse: Tensor
    """int64 [D], ascending: which of the N prompts diversity was measured on."""
    distances: Tensor
    """[M, D]: mean distance of two pictures of one prompt."""


@torch.no_grad()
def measure(
    field: Field,
    prompts: Sequence[str],
    diverse: Sequence[int],
    scorers: Mapping[str, Scorer],
    judge: str,
    encoder: Encoder,
    settings: Settings,
    track: Track,
) -> Measurements:
    """Everything about `prompts`; diversity only on those with the indices `diverse`.

    `judge` is the scorer that chooses the best of several candidates. Raises PahiError for scores that are not finite.
    """
    reviews = {label: partial(score_pictures, label, scorer) for label, scorer in scorers.items()}
    parts = [
        _measure_batch(field, batch, reviews, judge, settings.seeds)
        for batch in track(_batches(prompts, settings.batch), "scores")
    ]
    chosen = [prompts[index] for index in diverse]
    distances = [
        _measure_distances(field, batch, reviews[judge], encoder, settings.diversity_seeds)
        for batch in track(_batches(chosen, settings.batch), "diversity")
    ]
    scores, edges, kl = zip(*parts, strict=True)
    return Measurements(
        scores={label: torch.cat([part[label] for part in scores], -1) for label in scorers},
        sharpness=torch.cat(edges, -1),
        kl=torch.cat(kl, -1),
        diverse=torch.tensor(diverse),
        distances=torch.cat(distances, -1),
    )


def score_pictures(label: str, scorer: Scorer, pictures: Tensor, prompts: Batch) -> Tensor:
    """Scores float64 [B] on the CPU. Raises PahiError for NaN, infinity, or another shape."""
    scores = scorer.score(pictures, prompts).detach().double().cpu()
    if scores.shape != (len(prompts),):
        what = f"the scorer {label} gives scores of shape {list(scores.shape)} for {len(prompts)} pictures"
        raise ScorerError(what, fix="let it return one score for each picture")
    if not scores.isfinite().all():
        bad = int((~scores.isfinite()).sum())
        what = f"the scorer {label} gives NaN or infinity for {bad} of {len(scores)} pictures"
        raise ScorerError(what, fix="check the weights of the scorer, of the generator and of the prior")
    return scores


def draw_eps(prompts: Batch, seed: int, candidate: int, shape: LatentShape) -> Tensor:
    """Standard Gaussian noise [B, C, h, w], each row from its prompt, `seed` and `candidate` alone."""
    keys = [(seed << 8 | candidate) << 32 | zlib.crc32(prompt.encode("utf-8", "surrogatepass")) for prompt in prompts]
    return torch.from_numpy(draw_noise(keys, shape))


def draw_all(field: Field, reading: object, prompts: Batch, seeds: Iterable[int], review: Review) -> Iterator[Tensor]:
    """Pictures [B, 3, H, W] of every contender from the first seed, then from the second, and so on."""
    for seed in seeds:
        noise = _noise(field, prompts, seed)
        for contender in field.contenders:
            yield show(contender, reading, prompts, noise, review)


def show(
    contender: Contender, reading: object, prompts: Batch, noise: Callable[[int], Tensor], review: Review
) -> Tensor:
    """One picture of each prompt [B, 3, H, W]: of several candidates the one that `review` scores best.

    `noise(0)` is what all contenders are compared on. Candidates are drawn from `noise(1)` onwards: were the Gaussian's
    own picture among them, it would tie with itself as often as it is the best one.
    """
    if contender.candidates == 1:
        return contender.draw(reading, noise(0))
    pictures = contender.draw(reading, noise(1))
    best = review(pictures, prompts)
    for candidate in range(2, contender.candidates + 1):
        others = contender.draw(reading, noise(candidate))
        scores = review(others, prompts)
        better = (scores > best).to(pictures.device).view(-1, 1, 1, 1)
        pictures, best = torch.where(better, others, pictures), torch.maximum(scores, best)
    return pictures


def _noise(field: Field, prompts: Batch, seed: int) -> Callable[[int], Tensor]:
    """Candidate -> its eps [B, C, h, w], drawn once for all contenders."""
    return cache(lambda candidate: draw_eps(prompts, seed, candidate, field.latent_shape).to(field.device))


def _measure_batch(
    field: Field, prompts: Batch, reviews: Mapping[str, Review], judge: str, seeds: int
) -> tuple[dict[str, Tensor], Tensor, Tensor]:
    """Scores [M, R, B] by scorer, sharpness [M, R, B] and KL [M, B]."""
    reading = field.read(prompts)
    scores: dict[str, list[Tensor]] = {label: [] for label in reviews}
    edges = []
    for pictures in draw_all(field, reading, prompts, range(seeds), reviews[judge]):
        edges.append(sharpness(pictures).cpu())
        for label, review in reviews.items():
            scores[label].append(review(pictures, prompts))
    kl = torch.stack([contender.kl(reading).float().cpu() for contender in field.contenders])
    return {label: _by_contender(rows, seeds) for label, rows in scores.items()}, _by_contender(edges, seeds), kl


def _measure_distances(field: Field, prompts: Batch, review: Review, encoder: Encoder, seeds: int) -> Tensor:
    """Mean distance of two pictures of one prompt [M, B]."""
    numbers = range(DIVERSITY_SEEDS, DIVERSITY_SEEDS + seeds)
    pictures = draw_all(field, field.read(prompts), prompts, numbers, review)
    features = _by_contender([encoder(part) for part in pictures], seeds)
    return torch.stack([pairwise_distance(rows) for rows in features]).cpu()


def _by_contender(parts: Sequence[Tensor], seeds: int) -> Tensor:
    """What `draw_all` gave, R * M times [...] -> [M, R, ...]."""
    return torch.stack(list(parts)).unflatten(0, (seeds, -1)).transpose(0, 1)


def _batches(prompts: Sequence[str], size: int) -> list[Batch]:
    return [prompts[start : start + size] for start in range(0, len(prompts), size)]
