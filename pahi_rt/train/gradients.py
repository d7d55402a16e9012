"""Estimates the gradient of the preference loss with respect to each prompt's Gaussian, in one of several ways.

For one prompt, L(x) is the loss of the picture from x = mu + std eps, and p(x) the density of x. All estimate

    d/dmu E L(x),    d/dstd E L(x)

    pathwise          dL/dx,    dL/dx eps                                         backpropagation, as in the paper
    clipped           the same, times min(1, m / |ds'/dx|) for each sample, with the running median m of |ds'/dx|
    score-function    E L d log p(x): (L(x) - L(y)) / 2 eps / std,    ((L(x) + L(y)) / 2 - c) (eps^2 - 1) / std
                      with the opposite noise, y = mu - std eps, and the running mean c of the loss as a baseline
    mixed             k clipped + (1 - k) score-function, with the running share k of the lengths |ds'/dx| that clipping
                      leaves: what is cut off is made up for

Backpropagation has no bias where L is smooth in x. Where a picture switches between two states it is wrong (a jump has
no slope) or nearly all noise (a steep slope is rarely met). The score function needs no slope, only losses, and has no
bias either; but its noise grows with the number of values in x. Clipping bounds the noise at the price of a bias
towards what samples have in common. `pahi-rt evaluate --ceiling` measures which is the best for a generator and its
scorers.

Score function: Williams 1992, "Simple statistical gradient-following algorithms"; antithetic: Mania et al. 2018.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from pahi_rt.models.gaussians import Gaussian, sample_noise

Kind = Literal["pathwise", "clipped", "score-function", "mixed"]
RATE = 0.1
"""Weight of the newest step in the running numbers."""


@dataclass(frozen=True)
class Running:
    """What earlier steps tell, so that a step does not depend on how its batch is cut into parts."""

    length: float | None = None
    """m, the running median of |ds'/dx|. None before the first step, whose clipped gradients are therefore 0: it only
    measures."""
    kept: float = 0.0
    """k, the running share of the lengths that clipping leaves."""
    loss: float = math.log(2)
    """c, the running mean of the loss; at first the loss of a tie."""


@dataclass(frozen=True)
class Judged:
    """The pictures of B samples, judged by the training scorers."""

    losses: Tensor
    """[B]: L."""
    pull: Tensor
    """[B]: -dL/ds' without gradient, where s' is the mean of the scores, weighted as they weigh in this loss."""
    wins: Tensor
    """[B], as `scorers.statistics.wins`."""


@dataclass(frozen=True)
class Estimate:
    """Gradients of B samples, without a graph of their own, and what was seen on the way."""

    mean: Tensor
    """dL/dmu [B, C, h, w]."""
    std: Tensor
    """dL/dstd [B, C, h, w]."""
    losses: Tensor
    """[B]."""
    wins: Tensor
    """[B]."""
    lengths: Tensor
    """|ds'/dx| [B]; 0 where nothing is clipped."""


Judge = Callable[[Tensor], Judged]
"""Draws and judges the pictures from noise x [B, C, h, w]."""
Estimator = Callable[[Judge, Gaussian, Tensor, Running, float], Estimate]
"""(judge, Gaussians of B prompts, eps [B, C, h, w], running numbers, factor on the loss in backpropagation)."""


def pathwise(judge: Judge, gaussian: Gaussian, eps: Tensor, running: Running, factor: float) -> Estimate:
    """Backpropagation. `factor` keeps gradients inside the range of fp16."""
    slopes, judged = _differentiate(judge, gaussian, eps, factor)
    return Estimate(slopes, slopes * eps, judged.losses, judged.wins, torch.zeros_like(judged.losses))


def clipped(judge: Judge, gaussian: Gaussian, eps: Tensor, running: Running, factor: float) -> Estimate:
    """Backpropagation with the gradient of each sample's score cut to the running median length."""
    slopes, judged = _differentiate(judge, gaussian, eps, factor)
    tiny = torch.finfo(slopes.dtype).tiny
    lengths = slopes.flatten(1).norm(dim=1) / judged.pull.clamp_min(tiny)
    # An overflow, in fp16, stays one: infinity times 0 is NaN, and the step is skipped.
    factors = ((running.length or 0.0) / lengths.clamp_min(tiny)).clamp_max(1)
    slopes = slopes * factors.view(-1, 1, 1, 1)
    return Estimate(slopes, slopes * eps, judged.losses, judged.wins, lengths)


def score_function(judge: Judge, gaussian: Gaussian, eps: Tensor, running: Running, factor: float) -> Estimate:
    """Losses of two opposite noises; nothing is differentiated. Losses and wins are means over both."""
    with torch.no_grad():
        one = judge(sample_noise(gaussian, eps))
    return _oppose(one, judge, gaussian, eps, running)


def mixed(judge: Judge, gaussian: Gaussian, eps: Tensor, running: Running, factor: float) -> Estimate:
    """Clipped backpropagation, and the score function for what clipping takes away."""
    seen: list[Judged] = []

    def judge_and_keep(noise: Tensor) -> Judged:
        seen.append(judge(noise))
        return seen[0]

    cut = clipped(judge_and_keep, gaussian, eps, running, factor)
    opposed = _oppose(seen[0], judge, gaussian, eps, running)
    mean, std = (
        running.kept * ours + (1 - running.kept) * theirs
        for ours, theirs in ((cut.mean, opposed.mean), (cut.std, opposed.std))
    )
    return Estimate(mean, std, opposed.losses, opposed.wins, cut.lengths)


GRADIENTS: Mapping[Kind, Estimator] = {
    "pathwise": pathwise,
    "clipped": clipped,
    "score-function": score_function,
    "mixed": mixed,
}
"""Name in a recipe -> how it estimates."""


def follow(running: Running, lengths: Tensor, loss: float) -> Running:
    """The running numbers after a step with these lengths [batch] and this mean loss."""
    finite = lengths[lengths.isfinite()].double()
    if not finite.any():
        return Running(running.length, running.kept, _mix(running.loss, loss))
    median = float(finite.median())
    length = median if running.length is None else _mix(running.length, median)
    kept = float(finite.clamp_max(length).sum() / finite.sum())
    return Running(length, kept if running.length is None else _mix(running.kept, kept), _mix(running.loss, loss))


def _mix(old: float, new: float) -> float:
    return old + RATE * (new - old)


def _differentiate(judge: Judge, gaussian: Gaussian, eps: Tensor, factor: float) -> tuple[Tensor, Judged]:
    """dL/dx [B, C, h, w], and what was judged."""
    noise = sample_noise(gaussian, eps).requires_grad_()
    judged = judge(noise)
    (slopes,) = torch.autograd.grad(factor * judged.losses.sum(), noise)
    return slopes / factor, Judged(judged.losses.detach(), judged.pull, judged.wins)


@torch.no_grad()
def _oppose(one: Judged, judge: Judge, gaussian: Gaussian, eps: Tensor, running: Running) -> Estimate:
    """The score-function estimate from what was judged at eps, and now at -eps."""
    other = judge(sample_noise(gaussian, -eps))
    first, second = one.losses.detach(), other.losses
    odd, even = (
        part.view(-1, 1, 1, 1) / gaussian.std for part in ((first - second) / 2, (first + second) / 2 - running.loss)
    )
    wins = (one.wins + other.wins) / 2
    return Estimate(odd * eps, even * (eps.square() - 1), (first + second) / 2, wins, torch.zeros_like(first))
