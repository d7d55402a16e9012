"""Handles Ctrl-C, and the signal by which a cluster takes a machine back: training stops after the current step."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable
from types import FrameType, TracebackType
from typing import Any

SIGNALS = (signal.SIGINT, signal.SIGTERM)
ONE_PRESS = 1.0
"""Seconds within which signals count as one: processes get Ctrl-C from the terminal, and again from their launcher."""


class Interruption:
    """While entered, the first of SIGNALS only sets `asked`; a later one has its usual effect.

    `on_ask` is called inside the signal handler, where buffered output is not safe. Outside the main thread, where
    Python does not handle signals, this does nothing.
    """

    def __init__(self, on_ask: Callable[[], None] = lambda: None) -> None:
        self.asked = False
        self._on_ask = on_ask
        self._since = 0.0
        self._usual: dict[int, Any] = {}

    def __enter__(self) -> Interruption:
        if threading.current_thread() is threading.main_thread():
            self._usual = {number: signal.signal(number, self._ask) for number in SIGNALS}
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._restore()

    def _ask(self, number: int, frame: FrameType | None) -> None:
        if not self.asked:
            self.asked, self._since = True, time.monotonic()
            self._on_ask()
        elif time.monotonic() - self._since > ONE_PRESS:
            self._restore()
            signal.raise_signal(number)

    def _restore(self) -> None:
        for number, handler in self._usual.items():
            signal.signal(number, handler)
        self._usual = {}
