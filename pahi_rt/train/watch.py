"""Who is told how a training goes."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

from pahi_rt.train.recipe import Optimisation
from pahi_rt.train.trainer import Step
from pahi_rt.train.validation import Evaluation


class Watch(Protocol):
    """What is told; only the main process tells."""

    def begin(self, stage: str) -> None:
        """A long stage begins."""

    def end(self, stage: str, seconds: float) -> None:
        """It is done."""

    def step(self, number: int, settings: Optimisation, step: Step) -> None:
        """Step `number`, counted from 1, was taken."""

    def evaluation(self, number: int, evaluation: Evaluation, best: bool, pictures: Path) -> None:
        """The prior after `number` steps was evaluated; `best` if no loss before was as small."""

    def interrupted(self) -> None:
        """Ctrl-C: it stops after this step. Called within the signal handler, where no buffered output is safe."""


class Silent:
    """Tells nobody."""

    def begin(self, stage: str) -> None: ...

    def end(self, stage: str, seconds: float) -> None: ...

    def step(self, number: int, settings: Optimisation, step: Step) -> None: ...

    def evaluation(self, number: int, evaluation: Evaluation, best: bool, pictures: Path) -> None: ...

    def interrupted(self) -> None: ...


@contextmanager
def timed(watch: Watch, stage: str) -> Iterator[None]:
    """Tell when a stage begins and, unless it fails, when it ends."""
    watch.begin(stage)
    started = time.perf_counter()
    yield
    watch.end(stage, time.perf_counter() - started)
