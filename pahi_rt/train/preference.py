"""The preference loss, eq. (4): the learned prior's pictures must score higher than the standard Gaussian's.

Everything beyond the paper is a field of `Preference` and off by default. The options combine.
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
    """The settings of the loss. Raises RecipeError for settings out of range."""

    weights: Mapping[str, float]
    """Training scorer -> its weight, relative to the others. The paper has one scorer. Several help, because a prior
    that is trained against one scorer finds that scorer's blind spots. Each scorer has its own loss, which saturates
    once the prior wins under it, so that a large gain under one cannot pay for a loss under another."""
    kl_weight: float = 0.0
    """Loss per nat of KL to the standard Gaussian, averaged over prompts. Nothing in eq. (4) stops the prior from
    collapsing onto the best-scoring picture of each prompt; this term trades score for diversity."""
    noise: Noise = "fresh"
    """How the two noises of a comparison are related. "fresh", the paper's: independent. "shared": the same numbers,
    so that both pictures have the same layout and s - s' varies less; but then any tiny consistent change wins.
    "antithetic": s' is drawn from -eps, the least similar of equally likely noises, so that only a prior with a real
    margin wins."""
    scale: float | None = None
    """Replaces every scorer's own scale, the factor in the exponent of eq. (4). Larger values approach counting wins,
    smaller ones approach maximising the mean score."""

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
    """The scores of one batch by one scorer, in its own unit."""

    s: Tensor
    """[B], of pictures from the standard Gaussian."""
    s_prime: Tensor
    """[B], of pictures from the learned prior."""
    scale: float
    """The scorer's own factor in the exponent of eq. (4)."""


@dataclass(frozen=True)
class Loss:
    """The loss of one batch and its terms; each is a mean over prompts, a scalar []."""

    total: Tensor
    """The loss to minimise."""
    preference: Tensor
    """Weighted mean of eq. (4) over scorers; ln 2 = 0.693 for a prior that is not better than the Gaussian."""
    kl: Tensor
    """KL to the standard Gaussian in nats, without gradient."""


def preference_loss(s: Tensor, s_prime: Tensor, scale: float) -> Tensor:
    """Scores [B] of the standard Gaussian's and the prior's pictures -> eq. (4) [], mean over prompts.

    -log f' = log(1 + e^(s - s')) = softplus(s - s'), with both scores times `scale`. The paper sums over prompts. Adam
    takes the same steps for the mean, and the mean does not depend on how a batch is cut into micro-batches or over
    processes, as long as parts of different size are weighted by their size.
    """
    return preference_losses(s, s_prime, scale).mean()


def preference_losses(s: Tensor, s_prime: Tensor, scale: float) -> Tensor:
    """Eq. (4) of each sample [B]."""
    # In float32: s - s' is a small difference of close numbers, which half precision would round away.
    return functional.softplus(scale * (s.float() - s_prime.float()))


def sample_losses(scores: Mapping[str, Scores], settings: Preference) -> tuple[Tensor, Tensor]:
    """The weighted mean of eq. (4) over scorers [B], and its slope -d/ds' [B] without gradient.

    s' is the mean of the scorers' scores, each weighted as it weighs in this loss: for one scorer its own score.
    `scores` has the names of `settings.weights`. Raises ScorerError if a score is NaN or infinite.
    """
    losses, slopes, total = [], [], sum(settings.weights.values())
    for name, weight in settings.weights.items():
        s, s_prime, own = scores[name]
        check_scores(name, torch.cat([s, s_prime]))
        scale = settings.scale or own
        losses.append(weight * preference_losses(s, s_prime, scale))
        slopes.append(weight * scale * (scale * (s.float() - s_prime.detach().float())).sigmoid())
    return torch.stack(losses).sum(0) / total, torch.stack(slopes).sum(0) / total


def objective(losses: Tensor, gaussian: Gaussian, settings: Preference) -> Loss:
    """The loss of one batch, from the losses [B] of its samples and the prior's Gaussians."""
    preference, kl = losses.mean(), kl_divergence(gaussian).mean()
    total = preference + settings.kl_weight * kl if settings.kl_weight else preference
    return Loss(total, preference, kl.detach())


def draw_pair(shape: Sequence[int], noise: Noise, rng: torch.Generator) -> tuple[Tensor, Tensor]:
    """Standard Gaussian noise for s and for s', each of `shape` [B, C, h, w], on the device of `rng`.

    `noise` says how the second depends on the first; the first is the same for all.
    """
    eps = torch.randn(tuple(shape), generator=rng, device=rng.device)
    if noise == "shared":
        return eps, eps
    if noise == "antithetic":
        return eps, -eps
    return eps, torch.randn(tuple(shape), generator=rng, device=rng.device)


def check_scores(name: str, scores: Tensor) -> None:
    """Raises ScorerError if `scores` [B], by the scorer `name`, hold NaN or infinity."""
    if not scores.isfinite().all():
        bad = int((~scores.isfinite()).sum())
        what = f"the scorer {name} gives NaN or infinity for {bad} of {len(scores)} pictures"
        raise ScorerError(what, fix="check its weights, and train without autocast or with bf16 instead of fp16")


def _is_weighting(weights: Iterable[float]) -> bool:
    """Whether all weights are finite and at least 0, and at least one is above 0."""
    listed = list(weights)
    return all(0 <= weight < math.inf for weight in listed) and any(listed)
