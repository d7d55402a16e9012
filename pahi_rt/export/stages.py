"""The stages of a long piece of work: each is timed, reported, and begun with the memory of the last one given back."""

from __future__ import annotations

import ctypes
import gc
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

OnStage = Callable[[str, float, int | None], None]
"""Called after each stage with its name, its seconds, and the bytes that it wrote, if any."""


class Stages:
    """Times the stages of an export, and reports how much each has added to `folder`."""

    def __init__(self, folder: Path, report: OnStage | None) -> None:
        self._folder = folder
        self._report = report

    @contextmanager
    def run(self, name: str) -> Iterator[None]:
        """Time what is done inside; nothing is reported of a stage that fails."""
        before, start = self._size(), time.perf_counter()
        free_memory()
        yield
        if self._report is not None:
            self._report(name, time.perf_counter() - start, self._size() - before or None)

    def _size(self) -> int:
        return sum(path.stat().st_size for path in files_in(self._folder))


def free_memory() -> None:
    """Give memory back to the system: gigabytes that a stage has left, and that the next one needs.

    The exporter leaves cycles of objects, and glibc keeps what has been freed.
    """
    gc.collect()
    if sys.platform == "linux":
        library = ctypes.CDLL(None)
        if hasattr(library, "malloc_trim"):  # musl has none
            library.malloc_trim(0)


def files_in(folder: Path) -> list[Path]:
    """All files below `folder`, sorted."""
    return sorted(path for path in folder.rglob("*") if path.is_file())
