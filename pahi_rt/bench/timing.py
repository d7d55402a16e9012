"""How long things take: contenders draw in turns, so that each ratio compares two pictures of the same moment."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from pahi_rt.bench.reports.report import Ratio, Spread

RESAMPLES = 2000
UNTIMED = 1
"""Untimed calls before each timed one, for pictures of some milliseconds; see take_turns."""

Draw = Callable[[int], object]
"""Draws the n-th picture; prompt and seed follow from n."""


@dataclass(frozen=True)
class Race:
    """Milliseconds of a contender and of its reference, picture by picture."""

    own: Sequence[float]
    reference: Sequence[float]

    @property
    def ratios(self) -> list[float]:
        """The contender's time over the reference's, for each pair."""
        return [own / other for own, other in zip(self.own, self.reference, strict=True)]


def race(contender: Draw, reference: Draw, rounds: int, warm_up: int = 5, untimed: int = 0) -> Race:
    """Let a contender and its reference take turns; the reference against itself draws once a round."""
    if contender is reference:
        (own,) = take_turns([contender], rounds, warm_up, untimed)
        return Race(own, own)
    return Race(*take_turns([contender, reference], rounds, warm_up, untimed))


def take_turns(contenders: Sequence[Draw], rounds: int, warm_up: int = 5, untimed: int = 0) -> list[list[float]]:
    """Milliseconds of each contender in each round, called with the round's number; negative rounds warm up.

    The order is reversed from round to round. `untimed` calls before each timed one bring a contender's weights back
    into the caches, where a user who draws one picture after the other has them.
    """
    taken: list[list[float]] = [[] for _ in contenders]
    for number in range(-warm_up, rounds):
        order = list(zip(contenders, taken, strict=True))
        for contender, own in order if number % 2 else order[::-1]:
            for _ in range(untimed):
                contender(number)
            started = time.perf_counter()
            contender(number)
            if number >= 0:
                own.append((time.perf_counter() - started) * 1000)
    return taken


def spread(values: Sequence[float], digits: int = 2) -> Spread:
    """Median and percentiles (the nearest value at or beyond each), rounded to `digits`."""
    ordered = sorted(values)
    tenth, hundredth = len(ordered) // 10, len(ordered) // 100
    return Spread(
        median=round(statistics.median(ordered), digits),
        p10=round(ordered[tenth], digits),
        p90=round(ordered[-1 - tenth], digits),
        p99=round(ordered[-1 - hundredth], digits),
        n=len(ordered),
    )


def ratio(own: Sequence[float], other: Sequence[float], digits: int = 4) -> Ratio:
    """The median of the ratios pair by pair, and its 95 % interval by bootstrap over the pairs."""
    ratios = np.divide(own, other)
    draws = np.random.default_rng(0).integers(len(ratios), size=(RESAMPLES, len(ratios)))
    low, high = np.percentile(np.median(ratios[draws], axis=1), (2.5, 97.5))
    return Ratio(*(round(float(value), digits) for value in (np.median(ratios), low, high)))
