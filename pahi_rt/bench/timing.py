"""How long things take: in turns, so that each ratio is that of one moment, and with the spread that they had."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence

import numpy as np

RESAMPLES = 2000
UNTIMED = 1
"""For pictures of some milliseconds: see take_turns."""


def take_turns(
    contenders: Sequence[Callable[[int], object]], rounds: int, warm_up: int = 5, untimed: int = 0
) -> list[list[float]]:
    """Milliseconds of each of the contenders in each round, called with its number; negative ones warm up.

    Which is first changes from round to round. `untimed` calls before each timed one bring a contender's weights back
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


def spread(values: Sequence[float], digits: int = 2) -> dict[str, float | int]:
    """Median, 10th, 90th and 99th percentile (the nearest value at or beyond), and how many values there are."""
    ordered = sorted(values)
    tenth, hundredth = len(ordered) // 10, len(ordered) // 100
    places = {
        "median": statistics.median(ordered),
        "p10": ordered[tenth],
        "p90": ordered[-1 - tenth],
        "p99": ordered[-1 - hundredth],
    }
    return {**{name: round(value, digits) for name, value in places.items()}, "n": len(ordered)}


def ratio(own: Sequence[float], other: Sequence[float], digits: int = 4) -> dict[str, float]:
    """The median of the ratios pair by pair, and its 95 % interval by bootstrap over the pairs."""
    ratios = np.divide(own, other)
    draws = np.random.default_rng(0).integers(len(ratios), size=(RESAMPLES, len(ratios)))
    low, high = np.percentile(np.median(ratios[draws], axis=1), (2.5, 97.5))
    return {
        name: round(float(value), digits)
        for name, value in (("median", np.median(ratios)), ("low", low), ("high", high))
    }
