"""Progress of a training on standard error: one live line on a terminal, else a line now and then."""

from __future__ import annotations

import os
import shutil
import sys
import time
from collections import deque
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

from pahi_rt.cli import messages
from pahi_rt.cli.pace import RECENT, Pace, duration

if TYPE_CHECKING:
    from pahi_rt.train.recipe import Optimisation
    from pahi_rt.train.trainer import Step
    from pahi_rt.train.validation import Evaluation

SECONDS_ON_A_TERMINAL, SECONDS_ELSEWHERE = 0.2, 30.0
"""Seconds between two lines about steps."""


class TrainingProgress:
    """A Watch (pahi_rt.train.watch) that prints the progress."""

    def __init__(self) -> None:
        self._live = sys.stderr.isatty()
        self._pause = SECONDS_ON_A_TERMINAL if self._live else SECONDS_ELSEWHERE
        self._steps: deque[Step] = deque(maxlen=RECENT)
        self._pace = Pace()
        self._said = 0.0
        self._shown = False

    def __enter__(self) -> TrainingProgress:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._clear()

    def begin(self, stage: str) -> None:
        """Name the stage that has begun, on a terminal."""
        self._show(f"{stage} ...")

    def end(self, stage: str, seconds: float) -> None:
        """Report how long the stage took."""
        self._pace.stage(time.monotonic())
        self._clear()
        messages.stage(stage, seconds)

    def step(self, number: int, settings: Optimisation, step: Step) -> None:
        """Show throughput, the time left at most, loss and win rate, unless the last line is too recent."""
        now = time.monotonic()
        self._steps.append(step)
        self._pace.step(now)
        if estimate := self._pace.estimate(number, settings):
            self._clear()
            messages.note(estimate)
        if number == 1 or now - self._said >= self._pause:
            self._said = now
            self._tell(self._line(number, settings))

    def evaluation(self, number: int, evaluation: Evaluation, best: bool, pictures: Path) -> None:
        """Print the results on the validation prompts, and where the pictures are."""
        self._clear()
        wins = ", ".join(
            f"{name} {one.independent_win_rate_percent:.1f} % (same noise {one.same_noise_win_rate_percent:.1f})"
            for name, one in evaluation.scorers.items()
        )
        mark = " (best)" if best else ""
        loss = f"validation loss {evaluation.loss:.4f}{mark}"
        messages.say(f"step {number}  {loss}, wins {wins}, KL {evaluation.kl_nats:.4g} nats  {pictures}")
        # The pause for the evaluation does not count as time of steps.
        self._pace.evaluation(time.monotonic())
        self._steps.clear()

    def interrupted(self) -> None:
        """Confirm, on a terminal, that Ctrl-C was noticed."""
        if self._live:
            os.write(2, b"\nstopping after this step; Ctrl-C again stops at once\n")

    def _line(self, number: int, settings: Optimisation) -> str:
        loss = sum(step.loss for step in self._steps) / len(self._steps)
        wins = sum(step.win_rate_percent for step in self._steps) / len(self._steps)
        return (
            f"step {number} of {settings.max_steps}  {self._speed(number, settings)}loss {loss:.4f}, wins {wins:.0f} %"
        )

    def _speed(self, number: int, settings: Optimisation) -> str:
        left = self._pace.left(number, settings)
        if not left or not self._pace.seconds:
            return ""
        return f"{settings.batch / self._pace.seconds:.3g} prompts/s, {duration(left)} left at most, "

    def _tell(self, line: str) -> None:
        if self._live:
            self._show(line)
        else:
            messages.say(line)

    def _show(self, line: str) -> None:
        """Show a line on a terminal, which the next one replaces."""
        if self._live:
            self._clear()
            messages.show_live(line[: shutil.get_terminal_size().columns - 1])
            self._shown = True

    def _clear(self) -> None:
        if self._shown:
            messages.clear_live()
            self._shown = False
