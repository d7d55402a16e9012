"""Draws every contender's pictures and measures them: scores, sharpness, distances, KL.

Noise comes from `pahi_rt.noise`, with a key made of the prompt, the seed and the candidate. So a prompt gets the same
noise for every contender and in every table, whatever other prompts are evaluated, on every machine, in PyTorch and
from a bundle.
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
from pahi_rt.models.memory import Batches
from pahi_rt.noise import draw_noise
from pahi_rt.scorers import Scorer

Batch = Sequence[str]
Review = Callable[[Tensor, Batch], Tensor]
"""Pictures [B, 3, H, W] and their prompts -> checked scores [B] of one scorer."""
Track = Callable[[Sequence[Batch], str], Iterable[Batch]]
"""(batches of prompts, what is measured) -> the same batches; may show a progress bar."""
DIVERSITY_SEEDS = 1 << 20
"""First seed of the pictures that are drawn only to measure diversity."""


@dataclass(frozen=True)
class Settings:
    """How many pictures to draw. Raises PahiError for settings out of range."""

    seeds: int = 5
    """Pictures per prompt and contender to score, all from one training. The paper averages "5 runs with different
    seeds", and does not say whether these are trainings or draws."""
    diversity_seeds: int = 16
    """Pictures per prompt to measure distances between."""
    diversity_prompts: int = 32
    """Prompts per group to measure distances on, at most; they are evenly spread over the group."""
    batch: int = 16
    """Pictures to draw at once, or fewer where they do not fit."""

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
    """Measurements of M contenders, R seeds and N prompts, on the CPU."""

    scores: Mapping[str, Tensor]
    """Scorer -> float64 [M, R, N]."""
    sharpness: Tensor
    """[M, R, N], in 1/pixel."""
    kl: Tensor
    """[M, N] in nats; NaN where it is unknown."""
    diverse: Tensor
    """int64 [D], ascending: indices of the prompts that diversity was measured on."""
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
    """Draw and measure pictures of `prompts`; diversity only for the prompts with the indices `diverse`.

    `judge` labels the scorer that chooses the best of several candidates. Raises ScorerError for scores that are not
    finite, or of another shape.
    """
    reviews = {label: partial(score_pictures, label, scorer) for label, scorer in scorers.items()}
    batches = Batches(settings.batch, field.device)
    score = partial(_measure_batch, field, reviews=reviews, judge=judge, seeds=settings.seeds)
    parts = [part for some in track(_batches(prompts, settings.batch), "scores") for part in batches.run(score, some)]
    chosen = [prompts[index] for index in diverse]
    spread = partial(_measure_distances, field, review=reviews[judge], encoder=encoder, seeds=settings.diversity_seeds)
    distances = [
        part for some in track(_batches(chosen, settings.batch), "diversity") for part in batches.run(spread, some)
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
    """Score B pictures: float64 [B] on the CPU. Raises ScorerError for NaN, infinity, or another shape."""
    return check_scores(label, scorer.score(pictures, prompts).detach().double().cpu(), len(prompts))


def check_scores(label: str, scores: Tensor, count: int) -> Tensor:
    """`scores` of `count` pictures. Raises ScorerError for NaN, infinity, or another shape."""
    if scores.shape != (count,):
        what = f"the scorer {label} gives scores of shape {list(scores.shape)} for {count} pictures"
        raise ScorerError(what, fix="let it return one score for each picture")
    if not scores.isfinite().all():
        bad = int((~scores.isfinite()).sum())
        what = f"the scorer {label} gives NaN or infinity for {bad} of {len(scores)} pictures"
        raise ScorerError(what, fix="check the weights of the scorer, of the generator and of the prior")
    return scores


def draw_eps(prompts: Batch, seed: int, candidate: int, shape: LatentShape) -> Tensor:
    """Standard Gaussian noise [B, C, h, w]. Each row depends only on its prompt, `seed` and `candidate`."""
    keys = [(seed << 8 | candidate) << 32 | zlib.crc32(prompt.encode("utf-8", "surrogatepass")) for prompt in prompts]
    return torch.from_numpy(draw_noise(keys, shape))


def draw_all(
    field: Field, encoded: object, prompts: Batch, seeds: Iterable[int], review: Review
) -> Iterator[tuple[int, Tensor]]:
    """For each seed, and for each contender: its index and a picture of each prompt [B, 3, H, W].

    All contenders draw from the same noise.
    """
    for seed in seeds:
        noise = _candidate_noise(field, prompts, seed)
        for index, contender in enumerate(field.contenders):
            yield index, show(contender, encoded, prompts, noise, review)


def show(
    contender: Contender, encoded: object, prompts: Batch, noise: Callable[[int], Tensor], review: Review
) -> Tensor:
    """One picture of each prompt [B, 3, H, W]; if there are several candidates, the one that `review` scores best.

    All contenders are compared on `noise(0)`. Candidates are drawn from `noise(1)` onwards: if the Gaussian's own
    picture were among them, it would tie with itself whenever it is the best one.
    """
    if contender.candidates == 1:
        return contender.draw(encoded, noise(0))
    pictures = contender.draw(encoded, noise(1))
    best = review(pictures, prompts)
    for candidate in range(2, contender.candidates + 1):
        others = contender.draw(encoded, noise(candidate))
        scores = review(others, prompts)
        better = (scores > best).to(pictures.device).view(-1, 1, 1, 1)
        pictures, best = torch.where(better, others, pictures), torch.maximum(scores, best)
    return pictures


def _candidate_noise(field: Field, prompts: Batch, seed: int) -> Callable[[int], Tensor]:
    """A function from a candidate to its eps [B, C, h, w], cached so that all contenders share one draw."""

    @cache
    def noise(candidate: int) -> Tensor:
        return draw_eps(prompts, seed, candidate, field.latent_shape).to(field.device)

    return noise


def _measure_batch(
    field: Field, prompts: Batch, reviews: Mapping[str, Review], judge: str, seeds: int
) -> tuple[dict[str, Tensor], Tensor, Tensor]:
    """Scores [M, R, B] by scorer, sharpness [M, R, B] and KL [M, B]."""
    encoded = field.encode(prompts)
    # Contender by contender, the measurements of each seed.
    scores: dict[str, list[list[Tensor]]] = {label: [[] for _ in field.contenders] for label in reviews}
    edges: list[list[Tensor]] = [[] for _ in field.contenders]
    for index, pictures in draw_all(field, encoded, prompts, range(seeds), reviews[judge]):
        edges[index].append(sharpness(pictures).cpu())
        for label, review in reviews.items():
            scores[label][index].append(review(pictures, prompts))
    kl = torch.stack([contender.kl(encoded).float().cpu() for contender in field.contenders])
    return {label: _stack(rows) for label, rows in scores.items()}, _stack(edges), kl


def _measure_distances(field: Field, prompts: Batch, review: Review, encoder: Encoder, seeds: int) -> Tensor:
    """Mean distance of two pictures of one prompt [M, B]."""
    features: list[list[Tensor]] = [[] for _ in field.contenders]
    numbers = range(DIVERSITY_SEEDS, DIVERSITY_SEEDS + seeds)
    for index, pictures in draw_all(field, field.encode(prompts), prompts, numbers, review):
        features[index].append(encoder(pictures))
    return torch.stack([pairwise_distance(rows) for rows in _stack(features)]).cpu()


def _stack(rows: Sequence[Sequence[Tensor]]) -> Tensor:
    """M lists of R tensors [...] -> [M, R, ...]."""
    return torch.stack([torch.stack(list(row)) for row in rows])


def _batches(prompts: Sequence[str], size: int) -> list[Batch]:
    return [prompts[start : start + size] for start in range(0, len(prompts), size)]
