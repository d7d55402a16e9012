"""Ctrl-C while a library computes. Python's own handler waits until the library returns, which may be never."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TypeVar

T = TypeVar("T")


@contextmanager
def ends_at_once() -> Iterator[None]:
    """Inside this context, Ctrl-C ends the process at once, silently and without cleaning up.

    Do not use it around code that may leave an incomplete file behind.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_DFL)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def each_ends_at_once(items: Iterable[T]) -> Iterator[T]:
    """Yield the items. While the next one is computed, Ctrl-C ends the process at once."""
    source = iter(items)
    while True:
        with ends_at_once():
            try:
                item = next(source)
            except StopIteration:
                return
        yield item
