"""How a contender's scores compare with the standard Gaussian's, and how sure one may be of it.

    s   [R, N]   scores of the standard Gaussian's pictures: R seeds of each of N prompts
    s'  [R, N]   the contender's, from the same noise at the same place

The paper's Table 1 counts how often s' > s for "two images generated from the same prompt", and does not say that they
come from the same noise; its eq. (4) draws them independently. So the win rate between pictures of independent noise
comes first. Of the same noise any tiny change that is the same for every picture wins, which is why that rate stands
beside measures that such a change does not move: the win rate by a margin, and the effect size.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

CONFIDENCE = 0.95
MARGIN = 0.3
"""A win by a margin is one by more than this many standard deviations of s between seeds of one prompt."""
RESAMPLES = 4000
_AT_ONCE = 100
"""Resamples drawn together: all of them would need gigabytes for tens of thousands of prompts."""

Interval = tuple[float, float]


@dataclass(frozen=True)
class Comparison:
    """A contender against the Gaussian under one scorer, a mean over N prompts and R seeds."""

    independent_win_rate_percent: float
    """Over all pairs of different seeds of one prompt: what two people with two pictures would see; a tie is half."""
    independent_win_rate_std_percent: float
    """Its standard deviation between the contender's R seeds, each against the Gaussian's others. It says nothing of
    how far other prompts would differ."""
    independent_win_rate_interval_percent: Interval | None
    """95 % bootstrap interval over prompts or clusters of them. None for a single one: nothing follows for others."""
    same_noise_win_rate_percent: float
    """Over pairs of the same seed, so of the same noise. A tie counts half."""
    same_noise_win_rate_std_percent: float
    """Likewise."""
    same_noise_win_rate_interval_percent: Interval | None
    """Likewise."""
    margin_win_rate_percent: float
    """Same noise; whatever differs by less than MARGIN standard deviations is a tie."""
    effect_size: float | None
    """Mean s' - s in standard deviations of s between seeds of one prompt. None if s does not vary between seeds. Its
    unit is this generator's spread under this scorer: nothing to hold against another generator's or scorer's."""
    effect_size_interval: Interval | None
    """Likewise."""
    mean_score: float
    """Mean s', in the scorer's unit."""
    gaussian_mean_score: float
    """Mean s."""
    seed_std: float
    """The standard deviation of s between seeds of one prompt, in the scorer's unit: of each prompt's variance, the
    root of the mean."""


def compare(s: Tensor, s_prime: Tensor, clusters: Tensor | None = None) -> Comparison:
    """Scores [R, N] of the Gaussian and of a contender -> how they compare, R >= 2.

    `clusters`: see `bootstrap_interval`.
    """
    s, s_prime = s.double(), s_prime.double()
    spread = float(s.var(0).mean().sqrt())
    same, independent = wins(s, s_prime), independent_wins(s, s_prime)
    effects = torch.stack([(s_prime - s).mean(0), s.var(0)], 1)
    return Comparison(
        independent_win_rate_percent=_percent(independent.mean()),
        independent_win_rate_std_percent=_percent(independent.mean(1).std()),
        independent_win_rate_interval_percent=_interval_of_rate(independent, clusters),
        same_noise_win_rate_percent=_percent(same.mean()),
        same_noise_win_rate_std_percent=_percent(same.mean(1).std()),
        same_noise_win_rate_interval_percent=_interval_of_rate(same, clusters),
        margin_win_rate_percent=_percent(wins(s, s_prime, MARGIN * spread).mean()),
        effect_size=float(standardised(effects.mean(0))) if spread else None,
        effect_size_interval=bootstrap_interval(effects, standardised, clusters) if spread else None,
        mean_score=float(s_prime.mean()),
        gaussian_mean_score=float(s.mean()),
        seed_std=spread,
    )


def wins(s: Tensor, s_prime: Tensor, margin: float = 0.0) -> Tensor:
    """1 where s' is more than `margin` above s, 0 where it is as much below, 1/2 between."""
    difference = s_prime - s
    return (1 + torch.where(difference.abs() > margin, difference.sign(), 0.0)) / 2


def independent_wins(s: Tensor, s_prime: Tensor) -> Tensor:
    """Scores [R, N] -> [R, N]: the share of the R - 1 other seeds of s that each s' wins against, a tie counts half."""
    pairs = wins(s[:, None], s_prime[None])
    return (pairs.sum(0) - wins(s, s_prime)) / (len(s) - 1)


def bootstrap_interval(
    values: Tensor, statistic: Callable[[Tensor], Tensor], clusters: Tensor | None = None, seed: int = 0
) -> Interval | None:
    """The percentile interval of a statistic of means over prompts (Efron and Tibshirani 1993, section 13.3).

    `values` [N, K]: K numbers of each prompt. `statistic`: their means [..., K] -> [...]. Prompts are drawn with
    replacement, all seeds of a prompt together: what one prompt's seeds have in common is no evidence of the others.
    Likewise the prompts of one cluster, where `clusters`, int64 [N], has the same number for prompts that mean the
    same; without it each prompt stands for itself (Cameron, Gelbach and Miller 2008: the cluster bootstrap).
    None for one cluster, and where the statistic is not finite. With fewer than about 30 clusters, and where all are
    alike, the interval is too narrow.
    """
    members = torch.arange(len(values)) if clusters is None else clusters.unique(return_inverse=True)[1]
    sizes = members.bincount()
    if len(sizes) < 2:
        return None
    sums = values.new_zeros(len(sizes), values.shape[1]).index_add_(0, members, values)
    generator = torch.Generator().manual_seed(seed)
    means = []
    for _ in range(RESAMPLES // _AT_ONCE):
        drawn = torch.randint(len(sizes), (_AT_ONCE, len(sizes)), generator=generator)
        means.append(sums[drawn].sum(1) / sizes[drawn].sum(1, keepdim=True))
    resampled = statistic(torch.cat(means))
    if not resampled.isfinite().all():
        return None
    tail = (1 - CONFIDENCE) / 2
    low, high = torch.quantile(resampled, resampled.new_tensor([tail, 1 - tail])).tolist()
    return low, high


def mean_of_first(means: Tensor) -> Tensor:
    """Means [..., K] -> the first [...]."""
    return means[..., 0]


def ratio(means: Tensor) -> Tensor:
    """Means [..., 2] -> the first by the second [...]."""
    return means[..., 0] / means[..., 1]


def standardised(means: Tensor) -> Tensor:
    """Means [..., 2] of differences and of variances -> the difference in standard deviations [...]."""
    return means[..., 0] / means[..., 1].sqrt()


def _percent(share: Tensor) -> float:
    return 100 * float(share)


def _interval_of_rate(won: Tensor, clusters: Tensor | None) -> Interval | None:
    """Of the mean of `won` [R, N], in percent."""
    interval = bootstrap_interval(won.mean(0)[:, None], mean_of_first, clusters)
    return interval and (100 * interval[0], 100 * interval[1])
