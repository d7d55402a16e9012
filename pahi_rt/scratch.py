"""Scratch folders: where results are written until they are finished.

A scratch folder lies beside its target, in `.pahi-rt-PURPOSE-XXXXXXXX`, a name that nobody else has. A marker in it
says whose it is, and is locked while its run lives (marker.py). After a kill, the next run finds what is left by the
marker, never by the name alone, and only if it is a real folder, belongs to the user, and is not locked.
"""

from __future__ import annotations

import logging
import os
import platform
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from pahi_rt.errors import OutputError
from pahi_rt.marker import (
    MARKER,
    PREFIX,
    Marker,
    find_marked,
    is_scratch_name,
    lock_marker,
    read_marker,
    remove_unmarked,
    try_lock,
    write_marker,
)

PATIENCE = 2.0
"""Seconds that a run waits while another one looks around in the same folder, which takes milliseconds."""
_MOMENT = 0.005
"""Seconds between two looks at what another run holds."""

_log = logging.getLogger(__name__)


class Scratch:
    """A scratch folder of this process, locked until it is released or removed."""

    def __init__(self, path: Path, lock: int, *, is_resumed: bool) -> None:
        self.path = path
        self.is_resumed = is_resumed
        """Whether a run that was killed has left it."""
        self.is_kept = False
        """Whether it stays when its run ends."""
        self._lock = lock

    def release(self) -> None:
        """Unlock it, so that the next run may take it."""
        os.close(self._lock)

    def remove(self) -> None:
        """Remove all of it, the marker last, so that the next run finds what cannot be removed now."""
        with suppress(OSError):
            self._empty({MARKER})
            (self.path / MARKER).unlink()
            self.path.rmdir()
        self.release()

    def give_away(self, name: str) -> None:
        """Leave the entry `name` to the user: remove everything else, the marker too, so that no run removes it."""
        self.is_kept = True
        with suppress(OSError):
            self._empty({name})

    def _empty(self, kept: set[str]) -> None:
        for path in self.path.iterdir():
            if path.name in kept:
                continue
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink()


@contextmanager
def scratch(target: Path, purpose: str) -> Iterator[Path]:
    """An empty folder beside `target`, so on the same file system. It is removed at the end. Raises OSError.

    Any number of runs may have one for the same target. After a kill, `sweep` removes it.
    """
    made = _create(target.absolute(), purpose, claims=False)
    try:
        yield made.path
    finally:
        made.remove()


def sweep(folder: Path, *, silent: bool = False) -> None:
    """Remove the folders that `scratch` made in `folder` for runs that were killed, and log it unless `silent`."""
    remove_unmarked(folder)
    for path, marker in find_marked(folder):
        if not marker.claims and (left := _take(path)):
            left.remove()
            if not silent:
                _log.warning("removed what a run that was cut off has left: %s", path)


Settle = Callable[[Scratch], bool]
"""Finishes what a killed run had begun at the target itself. Returns whether the rest of its work can be resumed."""


@contextmanager
def claim(
    target: Path, purpose: str, *, resume: bool = False, settle: Settle | None = None, patience: float = 0.0
) -> Iterator[Scratch]:
    """A scratch folder beside `target`. While it lives, nobody else can claim the same target.

    With `resume` it is the folder that a killed run of the same purpose has left, if there is one. An error then leaves
    that folder as it is, and so does Ctrl-C. `settle` sees everything that was left for this target; what is not
    resumed is removed. Raises OutputError if another run has claimed the target for `patience` seconds, and OSError.
    """
    target, end = target.absolute(), time.monotonic() + patience
    while True:
        try:
            with _gate(target.parent):
                mine = _choose(target, purpose, resume, settle) or _create(target, purpose, claims=True)
            break
        except OutputError:
            if time.monotonic() >= end:
                raise
            time.sleep(_MOMENT)
    try:
        yield mine
    except Exception:
        mine.is_kept |= mine.is_resumed
        raise
    except BaseException:
        mine.is_kept |= resume
        raise
    finally:
        mine.release() if mine.is_kept else mine.remove()


def check_unclaimed(target: Path) -> None:
    """Raises OutputError if another run is writing `target`."""
    _release(_take_all(_claims(target.absolute()), target))


def check_idle(folder: Path) -> None:
    """Raises OutputError if a run is at work in `folder`."""
    _release(_take_all(find_marked(folder), folder))


def clear(folder: Path) -> None:
    """Remove everything that killed runs have left in `folder`. Raises OutputError if a run is at work there."""
    for left, _ in _take_all(find_marked(folder), folder):
        left.remove()


def is_scratch(path: Path) -> bool:
    """Whether `path` is a scratch folder of the user's, in use or not."""
    return is_scratch_name(path.name) and read_marker(path) is not None


def _create(target: Path, purpose: str, *, claims: bool) -> Scratch:
    while True:
        path = Path(tempfile.mkdtemp(prefix=f"{PREFIX}{purpose}-", dir=target.parent))
        marker = Marker(path.name, target.name, purpose, claims, os.getpid(), platform.node())
        try:
            return Scratch(path, write_marker(path, marker), is_resumed=False)
        except FileNotFoundError:
            continue  # another run found the folder empty and removed it
        except OSError:
            shutil.rmtree(path, ignore_errors=True)
            raise


def _choose(target: Path, purpose: str, resume: bool, settle: Settle | None) -> Scratch | None:
    """The folder to resume, if any. Settles and removes the others. Raises OutputError if one of them is in use."""
    remove_unmarked(target.parent)
    chosen = None
    for left, marker in _take_all(_claims(target), target):
        goes_on = settle is None or settle(left)
        if resume and goes_on and chosen is None and marker.purpose == purpose:
            chosen = left
            _log.warning("going on with what a run that was cut off has left: %s", left.path)
        elif left.is_kept:
            left.release()
        else:
            left.remove()
            _log.warning("removed what a run that was cut off has left: %s", left.path)
    return chosen


Marked = list[tuple[Path, Marker]]
Taken = list[tuple[Scratch, Marker]]


def _claims(target: Path) -> Marked:
    marked = find_marked(target.parent)
    return [(path, marker) for path, marker in marked if marker.claims and marker.target == target.name]


def _take(path: Path) -> Scratch | None:
    """Lock a marked folder; None if it is in use, or gone by now."""
    handle = lock_marker(path)
    return None if handle is None else Scratch(path, handle, is_resumed=True)


def _take_all(marked: Marked, target: Path) -> Taken:
    """Lock the folders of killed runs. Raises OutputError if another one is in use, since its run writes `target`."""
    taken = [(left, marker) for path, marker in marked if (left := _take(path))]
    if len(taken) == len(marked):
        return taken
    _release(taken)
    gone = {left.path for left, _ in taken}
    user = next(marker for path, marker in marked if path not in gone)
    what = f"another {user.purpose} is writing {target} (process {user.process} on {user.host})"
    raise OutputError(what, fix="wait for it, or choose another output")


def _release(taken: Taken) -> None:
    for left, _ in taken:
        left.release()


@contextmanager
def _gate(folder: Path) -> Iterator[None]:
    """Lock `folder`, so that only one run at a time looks around and makes its claim there.

    On file systems where folders cannot be locked (NFS), two claims within a millisecond may both be granted. Each run
    then writes into a folder of its own, and the last one to finish wins.
    """
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        end = time.monotonic() + PATIENCE
        with suppress(OSError):
            # A lock on the folder that lasts is somebody else's (`flock FOLDER pahi-rt export ...`).
            while not try_lock(handle) and time.monotonic() < end:
                time.sleep(_MOMENT)
        yield
    finally:
        os.close(handle)
