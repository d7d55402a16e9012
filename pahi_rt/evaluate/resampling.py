"""Means over prompts, and over pairs of prompts of different meaning, with bootstrap intervals.

All numbers are computed for R draws of the C meanings at once, from how often each draw holds a meaning. Before them
stands a draw that holds each meaning once, which gives the estimate itself. So a number that combines several means,
such as a ratio, gets its interval from the same draws.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from pahi_rt.comparison import CONFIDENCE, Interval
from pahi_rt.evaluate.ceiling_report import Estimate
from pahi_rt.scorers.statistics import RESAMPLES


@dataclass(frozen=True)
class Resampling:
    """Draws of the meanings that N prompts have, with all prompts of a meaning together."""

    members: Tensor
    """int64 [N]: number of each prompt's meaning, 0 to C - 1."""
    weights: Tensor
    """[1 + R, C]: how often each draw holds each meaning; 1 in the first row."""

    def means(self, values: Tensor) -> Tensor:
        """[N, ...] -> means over prompts [1 + R, ...]."""
        prompts = self.weights @ self._sizes(values)
        return (self.weights @ self._sums(values) / prompts[:, None]).view(-1, *values.shape[1:])

    def products(self, values: Tensor, others: Tensor) -> Tensor:
        """[N, D] and [N, D] -> [1 + R]: mean of values[p] . others[q] over prompts p and q of different meaning.

        Two such values are independent, so that nothing of their own noise is left: (E a) . (E a') without bias. A
        meaning that a draw holds twice makes no pair with itself, which would bring its noise back. NaN without pairs.
        """
        sizes = self._sizes(values)
        total = self._over_pairs(self._sums(values) @ self._sums(others).T)
        return total / self._over_pairs(torch.outer(sizes, sizes))

    def _over_pairs(self, table: Tensor) -> Tensor:
        """[C, C] -> [1 + R]: the sum over pairs of different meanings, as often as a draw holds them."""
        return ((self.weights @ (table - table.diag().diag())) * self.weights).sum(1)

    def _sums(self, values: Tensor) -> Tensor:
        """[N, ...] -> sums over the prompts of each meaning [C, ...], flattened."""
        rows = values.reshape(len(values), -1)
        return rows.new_zeros(self.weights.shape[1], rows.shape[1]).index_add_(0, self.members, rows)

    def _sizes(self, like: Tensor) -> Tensor:
        """Number of prompts of each meaning [C]."""
        return self.members.bincount().to(like)


def resample(meanings: Tensor, seed: int = 0) -> Resampling:
    """Draw the meanings, int64 [N], with replacement: the cluster bootstrap of `scorers.statistics`."""
    members = meanings.unique(return_inverse=True)[1]
    count = int(members.max()) + 1
    drawn = torch.randint(count, (RESAMPLES, count), generator=torch.Generator().manual_seed(seed))
    weights = torch.zeros(RESAMPLES, count).scatter_add_(1, drawn, torch.ones(drawn.shape))
    return Resampling(members, torch.cat([torch.ones(1, count), weights]).double())


def estimate(values: Tensor) -> Estimate | None:
    """[1 + R] -> the first number, with the interval of the others; None if it is not finite."""
    if not values[0].isfinite():
        return None
    return Estimate(float(values[0]), _interval(values[1:]))


def _interval(drawn: Tensor) -> Interval | None:
    drawn = drawn[~drawn.isnan()]  # a draw of one meaning alone has no pairs
    if len(drawn) < RESAMPLES / 2 or (drawn == drawn[0]).all():
        return None
    tail = (1 - CONFIDENCE) / 2
    ends = torch.quantile(drawn, drawn.new_tensor([tail, 1 - tail]), interpolation="nearest")
    low, high = ends.tolist()
    return (low, high) if ends.isfinite().all() else None
