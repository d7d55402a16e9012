"""Draws pictures of one prompt from antithetic noise, and keeps what their scores say about the noise.

For a prompt, noises x_1 ... x_m and their opposites are drawn, and each picture is scored:

    odd     o_i = (s(x_i) - s(-x_i)) / 2    all of the score that can be linear in the noise, and none that is even
    even    e_i = (s(x_i) + s(-x_i)) / 2

Products with the noise, o_i x_i and e_i (x_i^2 - 1) / sqrt 2, have the means a and b of `pahi_rt.evaluate.ceiling`.
Their means over i are kept, and the products of each with itself, which an unbiased |a|^2 has to leave out.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from pahi_rt.errors import PahiError
from pahi_rt.evaluate.measurements import draw_eps, score_pictures
from pahi_rt.models.memory import Batches
from pahi_rt.train.frozen import Models

SEEDS = 1 << 21
"""First seed of the noises here, far from those of Table 1. Noises to differentiate at come after a million others."""
_GRADIENTS = SEEDS + (1 << 20)


@dataclass(frozen=True)
class Settings:
    """How many pictures to draw. Raises PahiError for settings out of range."""

    pairs: int = 96
    """Pairs of opposite noises for each prompt: m."""
    gradients: int = 8
    """Noises for each prompt to differentiate the scores at; 0 for none."""
    batch: int = 16
    """Pictures to draw at once, or fewer where they do not fit."""

    def __post_init__(self) -> None:
        if self.pairs < 4:
            few = f"{2 * self.pairs} pictures of a prompt are too few to find what depends on the noise"
            raise PahiError(few, fix="use 8 or more; 192 are usual")
        if self.gradients == 1 or self.gradients < 0 or self.batch < 2:
            what = f"{self.gradients} gradients, {self.batch} pictures at once: one number is out of range"
            raise PahiError(what, fix="use no gradients or at least 2, and 2 or more pictures at once")


@dataclass(frozen=True)
class Moments:
    """One prompt under S scorers, with m pairs and noise of D values. float64 on the CPU."""

    pooled: Tensor
    """[P]: the prompt's embedding."""
    covariance: Tensor
    """[S, S] of the scores between noises, unbiased."""
    odd: Tensor
    """[S]: variance of the odd part."""
    linear: Tensor
    """[S, D]: mean of o_i x_i."""
    halves: Tensor
    """[2, S, D]: the same over every second i, and over the others."""
    linear_square: Tensor
    """[S, S]: unbiased a . a' of two scorers."""
    spread: Tensor
    """[S, D]: mean of e_i (x_i^2 - 1) / sqrt 2."""
    spread_square: Tensor
    """[S, S]: unbiased b . b' of two scorers."""
    noise: Tensor
    """[S]: mean of |o_i x_i|^2."""
    gradients: Tensor | None
    """[S, G, D]: d s / d x at G further noises. None if a scorer cannot be differentiated, or none were asked for."""


def observe(models: Models, specs: Sequence[str], prompt: str, settings: Settings, batches: Batches) -> Moments:
    """Draw the pictures of one prompt, `batches` of pairs at once, and score them by `specs`.

    Raises ScorerError for scores that are not finite, and TooLittleMemory if not even one pair fits.
    """
    noises = _draw(models, prompt, SEEDS, settings.pairs)
    scores = torch.cat(batches.run(partial(_score, models, specs, prompt), noises.to(models.device)), 1)
    noises = noises.flatten(1).double()
    odd, even = (scores[..., 0] - scores[..., 1]) / 2, (scores[..., 0] + scores[..., 1]) / 2
    even = even - even.mean(1, keepdim=True)
    count = len(noises)
    squares = (noises.square() - 1) / math.sqrt(2)
    return Moments(
        pooled=models.encode([prompt]).pooled[0].double().cpu(),
        covariance=odd @ odd.T / count + even @ even.T / (count - 1),
        odd=odd.square().mean(1),
        halves=torch.stack([odd[:, half::2] @ noises[half::2] / len(noises[half::2]) for half in (0, 1)]),
        linear=odd @ noises / count,
        linear_square=product_of_means(odd, noises),
        # The mean of e was subtracted, which takes this much from the product of two different ones.
        spread_square=product_of_means(even, squares) / ((1 - 1 / count) ** 2 + 1 / count**2),
        spread=even @ squares / count,
        noise=(odd.square() @ noises.square().sum(1)) / count,
        gradients=_differentiate(models, specs, prompt, settings),
    )


def product_of_means(scores: Tensor, noises: Tensor) -> Tensor:
    """[S, m] and [m, D] -> [S, S]: unbiased E[s x] . E[s' x], from all products of two different noises."""
    count = len(noises)
    sums = scores @ noises
    own = (scores * noises.square().sum(1)) @ scores.T
    return (sums @ sums.T - own) / (count * (count - 1))


def _draw(models: Models, prompt: str, first: int, count: int) -> Tensor:
    shape = models.generator.latent_shape
    return torch.cat([draw_eps([prompt], seed, 0, shape) for seed in range(first, first + count)])


@torch.no_grad()
def _score(models: Models, specs: Sequence[str], prompt: str, noises: Tensor) -> Tensor:
    """Scores [S, B, 2] of the pictures from `noises` [B, C, h, w] and from their opposites."""
    both = torch.cat([noises, -noises])
    prompts = [prompt] * len(both)
    pictures = models.draw(models.encode(prompts), both)
    rows = [score_pictures(spec, models.scorers[spec], pictures, prompts) for spec in specs]
    return torch.stack(rows).unflatten(1, (2, len(noises))).transpose(1, 2)


def _differentiate(models: Models, specs: Sequence[str], prompt: str, settings: Settings) -> Tensor | None:
    if not settings.gradients:
        return None
    noises = _draw(models, prompt, _GRADIENTS, settings.gradients).to(models.device)
    # One at a time: activations that are kept for backpropagation take many times the memory of a picture.
    parts = Batches(1, models.device).run(partial(_gradients, models, specs, prompt), noises)
    found = [part for part in parts if part is not None]
    return torch.cat(found, 1).double().cpu() if found else None


@torch.enable_grad()
def _gradients(models: Models, specs: Sequence[str], prompt: str, noises: Tensor) -> Tensor | None:
    """d s / d x [S, B, D]; None if a scorer cannot be differentiated."""
    noises, prompts = noises.clone().requires_grad_(), [prompt] * len(noises)
    pictures = models.draw(models.encode(prompts), noises)
    rows = []
    for spec in specs:
        scores = models.scorers[spec].score(pictures, prompts)
        if not scores.requires_grad:
            return None
        (row,) = torch.autograd.grad(scores.sum(), noises, retain_graph=True)
        rows.append(row.flatten(1))
    return torch.stack(rows)
