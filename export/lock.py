"""One at a time: exports to a bundle's place, and builds of plans in it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from pahi_rt.errors import OutputError


@contextmanager
def lock_output(output: Path) -> Iterator[None]:
    """No other process writes `output` meanwhile. OutputError if one does already, or no lock can be made beside it."""
    path = output.absolute().parent / f".{output.name}.lock"
    lock = FileLock(path)
    try:
        lock.acquire(timeout=0)
    except Timeout as error:
        what = f"another export or build is writing {output}"
        raise OutputError(what, fix="wait for it, or choose another output") from error
    except OSError as error:
        raise OutputError(f"cannot write {output}: {error.strerror}", fix="choose another output") from error
    try:
        yield
    finally:
        path.unlink(missing_ok=True)
        lock.release()
