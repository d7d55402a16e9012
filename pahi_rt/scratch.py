"""Scratch folders: what is written, but not finished.

It lies beside its target, in `.pahi-rt-PURPOSE-XXXXXXXX`, a name that nobody else has. A marker in it says whose it is,
and is locked while its run lives. What a run that was cut off has left is found by the marker, never by the name alone,
and only where it is a real folder, yours, and not locked.
"""

from __future__ import annotations

import errno
import fcntl
import json
import logging
import os
import re
import shutil
import socket
import stat
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from pahi_rt.errors import BundleError, OutputError
from pahi_rt.record import Record

PREFIX = ".pahi-rt-"
MARKER = "pahi-rt-scratch.json"
_NAME = re.compile(re.escape(PREFIX) + "[a-z]+-[a-z0-9_]{8}")
_LONGEST_MARKER = 4096
_PATIENCE = 2.0
"""Seconds that a run waits for another one to look around in the same folder, which takes milliseconds."""

_log = logging.getLogger(__name__)


@contextmanager
def scratch(target: Path, purpose: str) -> Iterator[Path]:
    """An empty folder on the file system of `target`, beside it, removed at the end. Raises OSError.

    Any number of runs may have one for the same target. `sweep` removes what a kill has left.
    """
    made = _create(target.absolute(), purpose, claims=False)
    try:
        yield made.path
    finally:
        made.remove()


def sweep(folder: Path) -> None:
    """Remove what `scratch` has made in `folder`, and a kill has left."""
    _remove_empty(folder)
    for path, marker in _marked(folder):
        if not marker.claims and (left := _take(path)):
            left.remove()
            _log.warning("removed what a run that was cut off has left: %s", path)


Settle = Callable[["Scratch"], bool]
"""Brings to an end what a run that was cut off had begun at the target itself; whether there is more to go on with."""


@contextmanager
def claim(target: Path, purpose: str, *, resume: bool = False, settle: Settle | None = None) -> Iterator[Scratch]:
    """A scratch folder beside `target`, while nobody else can have one for it.

    With `resume` it is the one that a run of the same purpose has left, if there is one; an error leaves that as it is,
    and so does a Ctrl-C. All else that was left for this target is removed, `settle` having seen it. Raises OutputError
    if another run has claimed it, and OSError.
    """
    target = target.absolute()
    with _gate(target.parent):
        mine = _choose(target, purpose, resume, settle) or _create(target, purpose, claims=True)
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
    _release(_take_all(_marked(folder), folder))


def clear(folder: Path) -> None:
    """Remove all that runs which were cut off have left in `folder`. Raises OutputError if one is at work there."""
    for left, _ in _take_all(_marked(folder), folder):
        left.remove()


def is_scratch(path: Path) -> bool:
    """A folder that carries our marker, in use or not."""
    return _NAME.fullmatch(path.name) is not None and _read_marker(path) is not None


class Scratch:
    """A folder of ours, locked until it is released or removed."""

    def __init__(self, path: Path, lock: int, *, is_resumed: bool) -> None:
        self.path = path
        self.is_resumed = is_resumed
        self.is_kept = False
        """Whether it stays when its run ends."""
        self._lock = lock

    def release(self) -> None:
        """Let others have it."""
        os.close(self._lock)

    def remove(self) -> None:
        """Remove all of it, the marker last, so that what cannot be removed now is found again."""
        with suppress(OSError):
            self._empty({MARKER})
            (self.path / MARKER).unlink()
            self.path.rmdir()
        self.release()

    def give_away(self, name: str) -> None:
        """What is called `name` in it is the user's, and is not removed by anybody: the marker goes, and all else."""
        self.is_kept = True
        with suppress(OSError):
            self._empty({name})

    def _empty(self, kept: set[str]) -> None:
        for path in self.path.iterdir():
            if path.name not in kept:
                _remove(path)


def try_lock(handle: int) -> bool:
    """Whether nobody else has this open file or folder; until it is closed, nobody will.

    Raises OSError where it cannot be locked.
    """
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


@dataclass(frozen=True)
class _Marker(Record):
    folder: str
    """Its name: a copy under another one is not ours."""
    target: str
    purpose: str
    claims: bool
    """Only the next run to the same target may touch it."""
    process: int
    host: str


def _create(target: Path, purpose: str, *, claims: bool) -> Scratch:
    while True:
        path = Path(tempfile.mkdtemp(prefix=f"{PREFIX}{purpose}-", dir=target.parent))
        marker = _Marker(path.name, target.name, purpose, claims, os.getpid(), socket.gethostname())
        try:
            return Scratch(path, _write_marker(path / MARKER, marker), is_resumed=False)
        except FileNotFoundError:
            continue  # another run has found it empty, and removed it
        except OSError:
            shutil.rmtree(path, ignore_errors=True)
            raise


def _write_marker(path: Path, marker: _Marker) -> int:
    """The open file, locked before there is anything in it that others would look for."""
    handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        # Where nothing can be locked, nobody can take it either.
        with suppress(OSError):
            try_lock(handle)
        path.lstat()
        os.write(handle, json.dumps(marker.to_dict()).encode())
    except OSError:
        os.close(handle)
        raise
    return handle


def _choose(target: Path, purpose: str, resume: bool, settle: Settle | None) -> Scratch | None:
    """What was left for `target` and is gone on with; the rest is removed. Raises OutputError for what is in use."""
    _remove_empty(target.parent)
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


Marked = list[tuple[Path, _Marker]]
Taken = list[tuple[Scratch, _Marker]]


def _take_all(marked: Marked, target: Path) -> Taken:
    """Those whose runs are gone, locked. Raises OutputError for one that is in use, since it writes `target`."""
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


def _claims(target: Path) -> Marked:
    return [(path, marker) for path, marker in _marked(target.parent) if marker.claims and marker.target == target.name]


def _marked(folder: Path) -> Marked:
    return [(path, marker) for path in _named(folder) if (marker := _read_marker(path))]


def _named(folder: Path) -> list[Path]:
    try:
        return sorted(Path(entry) for entry in os.scandir(folder) if _NAME.fullmatch(entry.name))
    except OSError:
        return []


def _remove_empty(folder: Path) -> None:
    """Folders whose run was cut off before it had written the marker, or when nothing else was left."""
    for path in _named(folder):
        with suppress(OSError):
            if not _read_marker(path):
                _remove_empty_marker(path)
                path.rmdir()


def _remove_empty_marker(path: Path) -> None:
    with suppress(FileNotFoundError):
        handle = _open_marker(path)
        try:
            if not os.fstat(handle).st_size and os.listdir(path) == [MARKER] and try_lock(handle):
                (path / MARKER).unlink()
        finally:
            os.close(handle)


def _read_marker(path: Path) -> _Marker | None:
    """None for a folder that is not ours and yours."""
    try:
        handle = _open_marker(path)
    except OSError:
        return None
    try:
        marker = _Marker.from_dict(json.loads(os.read(handle, _LONGEST_MARKER)))
    except (OSError, ValueError, RecursionError, BundleError):
        return None
    finally:
        os.close(handle)
    return marker if marker.folder == path.name else None


def _open_marker(path: Path) -> int:
    """Raises OSError for links, and for what belongs to another user."""
    folder = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        handle = os.open(MARKER, os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=folder)
        owners = {os.fstat(folder).st_uid, os.fstat(handle).st_uid}
    finally:
        os.close(folder)
    if owners == {os.geteuid()} and stat.S_ISREG(os.fstat(handle).st_mode):
        return handle
    os.close(handle)
    raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))


def _take(path: Path) -> Scratch | None:
    """A marked folder that nobody uses, locked; None for one that is in use, or gone by now."""
    with suppress(OSError):
        handle = _open_marker(path)
        with suppress(OSError):
            if try_lock(handle) and os.path.samestat(os.fstat(handle), (path / MARKER).lstat()):
                return Scratch(path, handle, is_resumed=True)
        os.close(handle)
    return None


@contextmanager
def _gate(folder: Path) -> Iterator[None]:
    """One run at a time looks around in `folder` and makes its claim there.

    Where folders cannot be locked (NFS), two claims within a millisecond may both be granted: each then writes into a
    folder of its own, and the last one is what stays.
    """
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        end = time.monotonic() + _PATIENCE
        with suppress(OSError):
            # A lock on the folder that lasts is somebody else's (`flock FOLDER pahi-rt export ...`).
            while not try_lock(handle) and time.monotonic() < end:
                time.sleep(0.005)
        yield
    finally:
        os.close(handle)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink()
