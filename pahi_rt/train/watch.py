"""The progress events of a training: an interface for whoever shows them, and one that ignores them."""

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
    """Receives the events, which only the main process sends."""

    def begin(self, stage: str) -> None:
        """A long stage begins."""

    def end(self, stage: str, seconds: float) -> None:
        """The stage has ended without an error, after this many seconds."""

    def step(self, number: int, settings: Optimisation, step: Step) -> None:
        """Step `number` was taken, counted from 1."""

    def evaluation(self, number: int, evaluation: Evaluation, best: bool, pictures: Path) -> None:
        """The prior was evaluated after `number` steps; `best` if its loss is the lowest so far."""

    def interrupted(self) -> None:
        """Ctrl-C: training stops after this step. Called inside the signal handler: buffered output is not safe."""


class Silent:
    """Ignores all events."""

    def begin(self, stage: str) -> None: ...

    def end(self, stage: str, seconds: float) -> None: ...

    def step(self, number: int, settings: Optimisation, step: Step) -> None: ...

    def evaluation(self, number: int, evaluation: Evaluation, best: bool, pictures: Path) -> None: ...

    def interrupted(self) -> None: ...


@contextmanager
def timed(watch: Watch, stage: str) -> Iterator[None]:
    """Report the beginning of a stage and, unless it fails, its end."""
    watch.begin(stage)
    started = time.perf_counter()
    yield
    watch.end(stage, time.perf_counter() - started)
