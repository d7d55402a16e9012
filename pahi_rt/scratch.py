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
    for path, _ in _marked(folder, claims=False):
        if left := _take(path):
            left.remove()
            _log.warning("removed what a run that was cut off has left: %s", path)


Settle = Callable[["Scratch"], None]
"""Brings to an end what a run that was cut off had begun at the target itself."""


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
    for left, _ in _take_all(target.absolute()):
        left.release()


def is_scratch(path: Path) -> bool:
    """A folder that carries our marker, in use or not."""
    return path.name.startswith(PREFIX) and _read_marker(path) is not None


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
            for path in self.path.iterdir():
                if path.name != MARKER:
                    _remove(path)
            self.hand_over()
            self.path.rmdir()
        self.release()

    def hand_over(self) -> None:
        """Take the marker off: what is in it is not ours, and nothing of it is removed from now on."""
        (self.path / MARKER).unlink(missing_ok=True)


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
    path = Path(tempfile.mkdtemp(prefix=f"{PREFIX}{purpose}-", dir=target.parent))
    marker = _Marker(path.name, target.name, purpose, claims, os.getpid(), socket.gethostname())
    try:
        return Scratch(path, _write_marker(path / MARKER, marker), is_resumed=False)
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
        os.write(handle, json.dumps(marker.to_dict()).encode())
    except OSError:
        os.close(handle)
        raise
    return handle


def _choose(target: Path, purpose: str, resume: bool, settle: Settle | None) -> Scratch | None:
    """What was left for `target` and is gone on with; the rest is removed. Raises OutputError for what is in use."""
    chosen = None
    for left, marker in _take_all(target):
        if settle is not None:
            settle(left)
        if resume and chosen is None and marker.purpose == purpose:
            chosen = left
            _log.warning("going on with what a run that was cut off has left: %s", left.path)
        elif left.is_kept:
            left.release()
        else:
            left.remove()
            _log.warning("removed what a run that was cut off has left: %s", left.path)
    return chosen


def _take_all(target: Path) -> list[tuple[Scratch, _Marker]]:
    """Every claim of `target`, locked, whose run is gone. Raises OutputError for one that is in use."""
    claims = [(path, marker) for path, marker in _marked(target.parent, claims=True) if marker.target == target.name]
    taken = [(left, marker) for path, marker in claims if (left := _take(path))]
    if len(taken) == len(claims):
        return taken
    for left, _ in taken:
        left.release()
    gone = {left.path for left, _ in taken}
    raise _in_use(target, next(marker for path, marker in claims if path not in gone))


def _in_use(target: Path, marker: _Marker) -> OutputError:
    who = f"process {marker.process} on {marker.host}"
    what = f"another {marker.purpose} is writing {target} ({who})"
    return OutputError(what, fix="wait for it, or choose another output")


def _marked(folder: Path, *, claims: bool) -> list[tuple[Path, _Marker]]:
    try:
        paths = sorted(Path(entry) for entry in os.scandir(folder) if entry.name.startswith(PREFIX))
    except OSError:
        return []
    found = [(path, marker) for path in paths if (marker := _read_marker(path))]
    return [(path, marker) for path, marker in found if marker.claims == claims]


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
