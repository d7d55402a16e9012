"""Verdicts: non-inferiority by intervals.

A measure passes if its whole 95 % interval is inside the margin, fails if all of it is outside, and is inconclusive
otherwise: then more pairs decide. A row passes if all its measures do, so that a wrong pass needs all of them to err.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pahi_rt.comparison import CONFIDENCE, Interval
from pahi_rt.qualification import FAIL, INCONCLUSIVE, PASS, Measure, Verdict
from pahi_rt.qualify.margins import Margin
from pahi_rt.scorers.statistics import bootstrap_interval, mean_of_first

SPARE = 1.2
"""Factor on the number of pairs that is advised: it is an estimate."""

Statistic = Callable[[Tensor], Tensor]


def judge_mean(
    values: NDArray, clusters: Sequence[int], margin: Margin, statistic: Statistic = mean_of_first
) -> Measure:
    """A statistic of the mean of `values` [N], with its bootstrap interval over clusters of pairs."""
    column = torch.as_tensor(values, dtype=torch.float64)[:, None]
    value = float(statistic(column.mean(0)))
    return judge(value, bootstrap_interval(column, statistic, torch.tensor(clusters)), margin)


def judge_against(
    values: NDArray, yardstick: NDArray, clusters: Sequence[int], reason: str, *, is_floor: bool
) -> Measure:
    """The mean of `values` [N], which may be no worse than that of `yardstick` [N], measured on the same pairs.

    Both vary between pictures, mostly alike. So the interval is that of their mean difference, counted from the margin,
    which is the yardstick's mean: what varies alike cancels.
    """
    column = torch.as_tensor(values - yardstick, dtype=torch.float64)[:, None]
    interval, limit = bootstrap_interval(column, mean_of_first, torch.tensor(clusters)), float(yardstick.mean())
    shifted = None if interval is None else (limit + interval[0], limit + interval[1])
    return judge(float(values.mean()), shifted, Margin(limit, reason, is_floor))


def judge_share(counted: NDArray[np.bool_], clusters: Sequence[int], margin: Margin) -> Measure:
    """The share of `counted` [N] pairs. No interval for a single cluster.

    The interval is that of Clopper and Pearson (1934), which also holds when nothing was counted, for as many
    independent pairs as tell as much as these (Korn and Graubard 1998).
    """
    from scipy.stats import beta

    share, tail = float(counted.mean()), (1 - CONFIDENCE) / 2
    if len(set(clusters)) < 2:
        return judge(share, None, margin)
    total = independent_pairs(counted, clusters)
    hits, misses = share * total, (1 - share) * total
    low = float(beta.ppf(tail, hits, misses + 1)) if hits else 0.0
    high = float(beta.ppf(1 - tail, hits + 1, misses)) if misses else 1.0
    return judge(share, (low, high), margin)


def independent_pairs(counted: NDArray[np.bool_], clusters: Sequence[int]) -> float:
    """How many independent pairs would tell their share as exactly: fewer where those of a cluster are alike.

    All of them where none or all were counted, which shows nothing of how alike they are.
    """
    members = np.unique(clusters, return_inverse=True)[1]
    sizes, hits = np.bincount(members), np.bincount(members, counted)
    share, total, groups = counted.mean(), len(counted), len(sizes)
    if share in (0, 1):
        return total
    # The variance of the share between clusters, and what it would be if all pairs were independent.
    found = groups / (groups - 1) * np.square(hits - share * sizes).sum() / total**2
    plain = share * (1 - share) / (total - 1)
    return float(total * min(1.0, plain / found)) if found else total


def judge_count(count: int, margin: Margin) -> Measure:
    """A count of faults, of which none is allowed."""
    return judge(float(count), (float(count), float(count)), margin)


def judge(value: float, interval: Interval | None, margin: Margin) -> Measure:
    """A measure with its verdict."""
    direction = "at least" if margin.is_floor else "at most"
    verdict = None if margin.limit is None else _verdict(interval, margin.limit, margin.is_floor)
    return Measure(value, interval, margin.limit, direction, verdict, margin.reason)  # type: ignore[arg-type]


def _verdict(interval: Interval | None, limit: float, is_floor: bool) -> Verdict:
    if interval is None:
        return INCONCLUSIVE
    low, high = interval if is_floor else (-interval[1], -interval[0])
    bound = limit if is_floor else -limit
    return PASS if low >= bound else FAIL if high < bound else INCONCLUSIVE


def overall(measures: Iterable[Measure]) -> Verdict:
    """The verdict of a row."""
    verdicts = [measure.verdict for measure in measures]
    return FAIL if FAIL in verdicts else INCONCLUSIVE if INCONCLUSIVE in verdicts else PASS


def pairs_needed(measures: Iterable[Measure], pairs: int) -> int | None:
    """About how many pairs would decide what is inconclusive; None if nothing is, or if no number would.

    More pairs do not move a value that lies on its margin, nor give one prompt an interval. An interval's width goes
    with the root of their number, and that of a share of none with the number itself.
    """
    needed = [_factor(measure) for measure in measures if measure.verdict == INCONCLUSIVE]
    most = max((factor for factor in needed if factor is not None), default=math.inf)
    return None if math.isinf(most) else max(pairs + 1, math.ceil(pairs * most / 10) * 10)


def _factor(measure: Measure) -> float | None:
    """How many times as many pairs a measure needs; None if one prompt gives no interval."""
    if measure.interval is None or measure.margin is None:
        return None
    low, high = measure.interval
    room = abs(measure.value - measure.margin)
    if not room:
        return math.inf
    reach = max(high - measure.value, measure.value - low) / room
    return SPARE * (reach if measure.value == low else reach**2)
