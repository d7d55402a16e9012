"""The preference loss, eq. (4): the learned prior's pictures must score higher than the standard Gaussian's.

What is beyond the paper is a field of `Preference`, off by default; all of them combine.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple, get_args

import torch
from torch import Tensor
from torch.nn import functional

from pahi_rt.errors import RecipeError, ScorerError
from pahi_rt.models.gaussians import Gaussian, kl_divergence

Noise = Literal["fresh", "shared", "antithetic"]


@dataclass(frozen=True)
class Preference:
    """The settings of the loss. Raises PahiError for settings out of range."""

    weights: Mapping[str, float]
    """Weight of each training scorer, relative to the others; the paper has one. Several, because a prior that is
    trained against one scorer finds that scorer's blind spots. Each has a loss of its own, which saturates once that
    scorer is won, so that a large gain under one cannot pay for a loss under another."""
    kl_weight: float = 0.0
    """Loss per nat of KL to the standard Gaussian, averaged over prompts. Nothing in eq. (4) stops the prior from
    collapsing onto the one picture per prompt that scores best; this buys diversity with score."""
    noise: Noise = "fresh"
    """The two noises of one comparison. "fresh", the paper: independent. "shared": the same numbers, so that both
    pictures have one layout and s - s' varies less; but any tiny consistent change then wins. "antithetic": s' from
    -eps, the least alike of equally likely noises, so that only a prior with a real margin wins."""
    scale: float | None = None
    """Replaces every scorer's own scale, the exponent's unit in eq. (4). Larger is closer to counting wins; smaller is
    closer to maximising the mean score."""

    def __post_init__(self) -> None:
        if not self.weights or not _is_weighting(self.weights.values()):
            what = f"no scorers to train with in {dict(self.weights)}"
            raise RecipeError(what, fix="name at least one scorer, with weights of 0 or more, and one above 0")
        if not _is_weighting([self.kl_weight, 1.0]):
            raise RecipeError(f"a KL weight of {self.kl_weight} cannot be used", fix="use 0 or more; 0.003 is mild")
        if self.noise not in get_args(Noise):
            fix = f"use {', '.join(get_args(Noise))}"
            raise RecipeError(f"no way to draw noise is named {self.noise!r}", fix=fix)
        if self.scale is not None and not 0 < self.scale < math.inf:
            fix = "use a positive number, or leave it out for the scorer's own"
            raise RecipeError(f"a scale of {self.scale} cannot be used", fix=fix)


class Scores(NamedTuple):
    """What one scorer says about a batch, in its own unit."""

    s: Tensor
    """[B], pictures from the standard Gaussian."""
    s_prime: Tensor
    """[B], pictures from the learned prior."""
    scale: float
    """The scorer's own: what one unit of the score is worth in the exponent."""


@dataclass(frozen=True)
class Loss:
    """The parts of one batch's loss, each a mean over prompts []."""

    total: Tensor
    """What is minimised."""
    preference: Tensor
    """Weighted mean of eq. (4) over scorers: ln 2 = 0.693 for a prior that is no better than the Gaussian."""
    kl: Tensor
    """Nats."""


def preference_loss(s: Tensor, s_prime: Tensor, scale: float) -> Tensor:
    """Scores [B] of the standard Gaussian's and the prior's pictures -> eq. (4) [], mean over prompts.

    -log f' = log(1 + e^(s - s')) = softplus(s - s'), with both scores times `scale`. The paper sums over prompts. Adam
    takes the same steps for the mean, and the mean does not depend on how a batch is cut into micro-batches or over
    processes, which have to be weighted by their size if they differ.
    """
    # A difference of two close numbers: half precision would leave little of it.
    return functional.softplus(scale * (s.float() - s_prime.float())).mean()


def objective(scores: Mapping[str, Scores], gaussian: Gaussian, settings: Preference) -> Loss:
    """The loss of one batch from each training scorer's scores and the Gaussians that the noise came from.

    `scores` has the names of `settings.weights`. Raises PahiError if a score is NaN or infinite.
    """
    terms = []
    for name, weight in settings.weights.items():
        s, s_prime, scale = scores[name]
        check_scores(name, torch.cat([s, s_prime]))
        terms.append(weight * preference_loss(s, s_prime, settings.scale or scale))
    preference = torch.stack(terms).sum() / sum(settings.weights.values())
    kl = kl_divergence(gaussian).mean()
    total = preference + settings.kl_weight * kl if settings.kl_weight else preference
    return Loss(total, preference, kl.detach())


def draw_pair(shape: Sequence[int], noise: Noise, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Standard Gaussian noise for s and for s', each of `shape` [B, C, h, w], on the generator's device.

    The first of the two does not depend on `noise`.
    """
    eps = torch.randn(tuple(shape), generator=generator, device=generator.device)
    if noise == "shared":
        return eps, eps
    if noise == "antithetic":
        return eps, -eps
    return eps, torch.randn(tuple(shape), generator=generator, device=generator.device)


def check_scores(name: str, scores: Tensor) -> None:
    """Raises PahiError if the scorer `name` gave NaN or infinity; scores [B]."""
    if not scores.isfinite().all():
        bad = int((~scores.isfinite()).sum())
        what = f"the scorer {name} gives NaN or infinity for {bad} of {len(scores)} pictures"
        raise ScorerError(what, fix="check its weights, and train without autocast or with bf16 instead of fp16")


def _is_weighting(weights: Iterable[float]) -> bool:
    """Whether all are finite and none negative, and one of them is more than zero."""
    listed = list(weights)
    return all(0 <= weight < math.inf for weight in listed) and any(listed)
