"""How fast a training goes, and how long the rest of it takes."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pahi_rt.train.recipe import Optimisation

RECENT = 50
"""Steps that a pace is a mean of."""
FIRST = 10
"""Steps of this start after which there is an estimate."""


class Pace:
    """Is told what happened and when, in seconds of any clock. The first step of a start, slower than others, does not
    count, nor do stages."""

    def __init__(self) -> None:
        self.taken = 0
        """Steps of this start."""
        self._steps: deque[float] = deque(maxlen=RECENT)
        self._evaluation: float | None = None
        self._last: float | None = None

    def stage(self, now: float) -> None:
        """A stage before the first step is over."""
        self._last = now

    def step(self, now: float) -> None:
        """A step was taken."""
        if self.taken and self._last is not None:
            self._steps.append(now - self._last)
        self.taken += 1
        self._last = now

    def evaluation(self, now: float) -> None:
        """An evaluation is over."""
        if self._last is not None:
            self._evaluation = now - self._last
        self._last = now

    @property
    def seconds(self) -> float | None:
        """Of one step; None before the second one."""
        return sum(self._steps) / len(self._steps) if self._steps else None

    def left(self, number: int, settings: Optimisation) -> float | None:
        """Seconds from step `number`, counted from 1, to the last one, with the evaluations between if one was seen.

        Early stopping may come before. None before the second step.
        """
        if self.seconds is None:
            return None
        evaluations = evaluations_after(number, settings)
        return (settings.max_steps - number) * self.seconds + evaluations * (self._evaluation or 0.0)

    def estimate(self, number: int, settings: Optimisation) -> str | None:
        """A sentence after `FIRST` steps of this start, and never again; None before, after, and at the end."""
        left = self.left(number, settings)
        if self.taken != FIRST or left is None or number >= settings.max_steps:
            return None
        without = "" if self._evaluation is not None else ", evaluations not counted"
        pace = f"{self.seconds:.2g} s a step{without}"
        return f"about {duration(left)} left at most, at {pace}; early stopping may end it before"


def evaluations_after(number: int, settings: Optimisation) -> int:
    """How many evaluations are due after step `number`: at every multiple of `evaluate_every`, and at the last step."""
    every, last = settings.evaluate_every, settings.max_steps
    return last // every - number // every + (last % every != 0 and number < last)


def duration(seconds: float) -> str:
    """A time for people: "45 s", "12 min", "3 h 05 min", "23 days 4 h"."""
    if seconds < 59.5:
        return f"{seconds:.0f} s"
    hours, minutes = divmod(round(seconds / 60), 60)
    if hours >= 48:
        return f"{hours // 24} days {hours % 24} h"
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min"
