"""Compares a contender's scores with the standard Gaussian's, with confidence intervals.

    s   [R, N]   scores of the standard Gaussian's pictures: R seeds for each of N prompts
    s'  [R, N]   scores of the contender's pictures; the same place has the same noise

The paper's Table 1 counts how often s' > s for "two images generated from the same prompt". It does not say that they
come from the same noise, and its eq. (4) draws them independently. So the first win rate compares pictures of
independent noise. Between pictures of the same noise, any tiny change that is the same for every picture wins nearly
always. So the same-noise win rate comes with two measures that such a change does not move: the win rate by a margin,
and the effect size.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from pahi_rt.comparison import CONFIDENCE, MARGIN, Comparison, Interval

RESAMPLES = 4000
_AT_ONCE = 100
"""Resamples drawn at once. All together would need gigabytes for tens of thousands of prompts."""


def compare(s: Tensor, s_prime: Tensor, clusters: Tensor | None = None) -> Comparison:
    """Compare the scores [R, N] of the Gaussian, `s`, with those of a contender, `s_prime`; R >= 2.

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
    """1 where s' is above s by more than `margin`, 0 where it is below by more than that, 1/2 otherwise."""
    difference = s_prime - s
    return (1 + torch.where(difference.abs() > margin, difference.sign(), 0.0)) / 2


def independent_wins(s: Tensor, s_prime: Tensor) -> Tensor:
    """Scores [R, N] -> [R, N]: the share of the R - 1 other seeds of s that each s' beats. A tie counts half."""
    pairs = wins(s[:, None], s_prime[None])
    return (pairs.sum(0) - wins(s, s_prime)) / (len(s) - 1)


def bootstrap_interval(
    values: Tensor, statistic: Callable[[Tensor], Tensor], clusters: Tensor | None = None, seed: int = 0
) -> Interval | None:
    """The percentile interval of a statistic of means over prompts (Efron and Tibshirani 1993, section 13.3).

    Args:
        values: [N, K], K numbers for each prompt.
        statistic: means over prompts [..., K] -> [...].
        clusters: int64 [N], the same number for prompts that mean the same. Without it each prompt is its own cluster.
        seed: of the resampling.

    Clusters are drawn with replacement, with all their prompts and all seeds of these together, because seeds of one
    prompt, and prompts of one meaning, are not independent (Cameron, Gelbach and Miller 2008: the cluster bootstrap).
    None for one cluster, and if the statistic is not finite. With fewer than about 30 clusters, and if all are alike,
    the interval is too narrow.
    """
    members = torch.arange(len(values)) if clusters is None else clusters.unique(return_inverse=True)[1]
    sizes = members.bincount()
    if len(sizes) < 2:
        return None
    sums = values.new_zeros(len(sizes), values.shape[1]).index_add_(0, members, values)
    rng = torch.Generator().manual_seed(seed)
    means = []
    for _ in range(RESAMPLES // _AT_ONCE):
        drawn = torch.randint(len(sizes), (_AT_ONCE, len(sizes)), generator=rng)
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
    """Means [..., 2] -> the first divided by the second [...]."""
    return means[..., 0] / means[..., 1]


def standardised(means: Tensor) -> Tensor:
    """Means [..., 2] of differences and of variances -> the difference in standard deviations [...]."""
    return means[..., 0] / means[..., 1].sqrt()


def _percent(share: Tensor) -> float:
    return 100 * float(share)


def _interval_of_rate(won: Tensor, clusters: Tensor | None) -> Interval | None:
    """The interval of the mean of `won` [R, N], in percent."""
    interval = bootstrap_interval(won.mean(0)[:, None], mean_of_first, clusters)
    return interval and (100 * interval[0], 100 * interval[1])
