"""SIGHUP, which reads API keys again once the service runs, and must not end it while it starts."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def sighup_waits() -> Iterator[None]:
    """Inside this context the process, and those that it starts, keep SIGHUP until `take_sighup`."""
    if not hasattr(signal, "SIGHUP"):  # Windows
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGHUP})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def take_sighup() -> None:
    """Let a SIGHUP that waits come, since it is handled from now on."""
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGHUP})
