"""Do threads take turns in a function?"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

_MOMENT = 0.5
"""Seconds. All that a second thread does until then is to come in."""


class Crowd:
    """A function that waits a moment for a second thread: in vain, if its callers take turns."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self._function, self._both = function, threading.Barrier(2)
        self.met = False
        """Whether two threads were inside at once."""

    def __call__(self, *arguments: Any) -> Any:
        try:
            self._both.wait(_MOMENT)
            self.met = True
        except threading.BrokenBarrierError:  # nobody came, and nobody is waited for from now on
            pass
        return self._function(*arguments)


def run_at_once(run: Callable[..., Any], calls: Sequence[Sequence[Any]]) -> list[Any]:
    """What `run` returns for the arguments of each call, each in a thread of its own."""
    with ThreadPoolExecutor(len(calls)) as pool:
        return [done.result() for done in [pool.submit(run, *arguments) for arguments in calls]]
