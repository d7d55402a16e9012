"""The supervisor of several workers, with processes that only pretend: whom it replaces, and when it gives up."""

from __future__ import annotations

import math
import socket
import time
from collections.abc import Sequence
from dataclasses import dataclass
from multiprocessing.context import SpawnProcess
from pathlib import Path
from typing import cast

import pytest

from pahi_rt.errors import PahiError
from pahi_rt.serve import workers
from pahi_rt.serve.settings import Settings
from pahi_rt.serve.workers import Supervisor


@dataclass(frozen=True)
class Life:
    """A worker that has ended."""

    seconds: float
    """How long it lived."""
    load: float
    """What it noted last; infinite while it loads."""
    pid, exitcode, sentinel = 4_000_000, -9, -1

    def is_alive(self) -> bool:
        return False

    def join(self, timeout: float | None = None) -> None:
        pass


WORKED, LOADING, CRASHED = Life(60, 2), Life(60, math.inf), Life(1, 0)


@pytest.mark.parametrize(
    ("lives", "started"),
    [
        ([LOADING] * 9, 5),
        ([CRASHED] * 9, 5),
        ([CRASHED, LOADING] * 9, 5),
        ([LOADING] * 4 + [WORKED] + [CRASHED] * 9, 10),
    ],
    ids=["each while it loads", "each at once", "in turns", "one has worked"],
)
def test_workers_that_never_work_are_not_replaced_for_ever(
    lives: Sequence[Life], started: int, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    coming = iter(lives)
    count = 0

    def start(self: Supervisor, place: int) -> workers._Worker:
        nonlocal count
        count += 1
        life = next(coming)
        self._loads.note(place, life.load)
        return workers._Worker(place, cast(SpawnProcess, life), time.monotonic() - life.seconds)

    monkeypatch.setattr(Supervisor, "_start", start)
    monkeypatch.setattr(workers, "wait", lambda sentinels, seconds: None)
    monkeypatch.setattr(workers, "_PAUSE", 0.0)
    with socket.socket() as listener:
        supervisor = Supervisor(Settings(("emoji",), workers=1), listener, tmp_path)
        with pytest.raises(PahiError, match="before they have drawn anything"):
            supervisor.run()
    assert count == started
