"""Lines that libraries print to standard error by themselves, from C, past Python's logging."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def quiet_libraries() -> Iterator[None]:
    """Keep such lines from the screen while the context runs. What Python prints is shown as ever.

    Each error that matters is raised too; the same, with the library's file names and line numbers, helps no user.
    """
    try:
        kept = os.dup(2)
    except OSError:  # closed
        yield
        return
    shown = sys.stderr
    with tempfile.TemporaryFile() as dropped, os.fdopen(kept, "w", buffering=1, errors="backslashreplace") as screen:
        if _writes_to_screen(shown):
            shown.flush()
            sys.stderr = screen
        os.dup2(dropped.fileno(), 2)
        try:
            yield
        finally:
            screen.flush()
            os.dup2(screen.fileno(), 2)
            sys.stderr = shown


def _writes_to_screen(stream: object) -> bool:
    try:
        return stream is not None and stream.fileno() == 2  # type: ignore[attr-defined]  # of any kind, in tests
    except (AttributeError, OSError, ValueError):
        return False
