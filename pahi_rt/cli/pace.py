"""The pace of a training: how fast it is, and how long the rest takes."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pahi_rt.train.recipe import Optimisation

RECENT = 50
"""The latest steps, whose mean is the pace."""
FIRST = 10
"""Steps since the start, or since it was resumed, after which there is an estimate."""


class Pace:
    """Measures the pace from the times of events, in seconds of any clock.

    Stages do not count, nor does the first step since the start, which is slower than the others.
    """

    def __init__(self) -> None:
        self.taken = 0
        """Steps since the start, or since it was resumed."""
        self._steps: deque[float] = deque(maxlen=RECENT)
        self._evaluation: float | None = None
        self._last: float | None = None

    def stage(self, now: float) -> None:
        """Record the end of a stage before the first step."""
        self._last = now

    def step(self, now: float) -> None:
        """Record a step."""
        if self.taken and self._last is not None:
            self._steps.append(now - self._last)
        self.taken += 1
        self._last = now

    def evaluation(self, now: float) -> None:
        """Record the end of an evaluation."""
        if self._last is not None:
            self._evaluation = now - self._last
        self._last = now

    @property
    def seconds(self) -> float | None:
        """Seconds of one step; None before the second step."""
        return sum(self._steps) / len(self._steps) if self._steps else None

    def left(self, number: int, settings: Optimisation) -> float | None:
        """Seconds from step `number` (the first is 1) to the last one; None before the second step.

        Evaluations count if one was measured. Early stopping may end the training sooner.
        """
        if self.seconds is None:
            return None
        evaluations = evaluations_after(number, settings)
        return (settings.max_steps - number) * self.seconds + evaluations * (self._evaluation or 0.0)

    def estimate(self, number: int, settings: Optimisation) -> str | None:
        """A sentence about the time left, once: after `FIRST` steps. None at all other steps, and at the end."""
        left = self.left(number, settings)
        if self.taken != FIRST or left is None or number >= settings.max_steps:
            return None
        without = "" if self._evaluation is not None else ", evaluations not counted"
        pace = f"{self.seconds:.2g} s a step{without}"
        return f"about {duration(left)} left at most, at {pace}; early stopping may end it before"


def evaluations_after(number: int, settings: Optimisation) -> int:
    """The evaluations still to come after step `number`: at each multiple of `evaluate_every`, and at the last step."""
    every, last = settings.evaluate_every, settings.max_steps
    return last // every - number // every + (last % every != 0 and number < last)


def duration(seconds: float) -> str:
    """A time in words: "45 s", "12 min", "3 h 05 min", "23 days 4 h"."""
    if seconds < 59.5:
        return f"{seconds:.0f} s"
    hours, minutes = divmod(round(seconds / 60), 60)
    if hours >= 48:
        return f"{hours // 24} days {hours % 24} h"
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min"
