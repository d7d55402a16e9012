"""Files that this process has mapped into its memory: how to have the memory back, and keep the mapping.

OpenVINO maps a graph's weights, lays them out anew in memory of its own, and keeps the mapping as long as the graph:
without this, a model would take twice its size.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
from collections.abc import Collection, Iterator
from pathlib import Path

_MAPS = Path("/proc/self/maps")
_MADV_DONTNEED = 4


def release_pages(paths: Collection[Path]) -> None:
    """Let go of the pages of these files, wherever they are mapped to be read alone, until they are read again.

    They come back from the system's cache of files, or from the disk. Does nothing where the system is not Linux.
    """
    with contextlib.suppress(OSError, AttributeError):
        advise = ctypes.CDLL(None, use_errno=True).madvise
        advise.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)
        for start, end in find_mappings(paths):
            advise(start, end - start, _MADV_DONTNEED)


def find_mappings(paths: Collection[Path]) -> Iterator[tuple[int, int]]:
    """First and last address of each mapping of these files that cannot be written. Raises OSError without /proc."""
    wanted = {os.path.realpath(path) for path in paths}
    for line in _MAPS.read_text(encoding="utf-8", errors="surrogateescape").splitlines():
        addresses, rights, *_, path = line.split(maxsplit=5)
        # What a process wrote into a private mapping is nowhere else, and would be lost.
        if "w" not in rights and path in wanted:
            start, end = (int(address, 16) for address in addresses.split("-"))
            yield start, end
