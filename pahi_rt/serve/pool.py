"""Threads that tell whether they are at work: Python cannot stop one, and waits for it when the process ends."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any


class Pool(ThreadPoolExecutor):
    """`threads` threads, whose names begin with `name`."""

    def __init__(self, threads: int, name: str) -> None:
        super().__init__(threads, name)
        self._futures: set[Future[Any]] = set()

    @property
    def is_busy(self) -> bool:
        """Whether anything runs, or waits to."""
        return bool(self._futures)

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """Run `fn` in one of the threads."""
        future = super().submit(fn, *args, **kwargs)
        self._futures.add(future)
        future.add_done_callback(self._futures.discard)
        return future
