"""Markers: the file inside a scratch folder that says whose folder it is, and is locked while its run lives."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import re
import stat
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from pahi_rt.errors import BundleError
from pahi_rt.record import Record

PREFIX = ".pahi-rt-"
"""Names of scratch folders begin with this, then the purpose and 8 random characters."""
MARKER = "pahi-rt-scratch.json"
_NAME = re.compile(re.escape(PREFIX) + "[a-z]+-[a-z0-9_]{8}")
_LONGEST = 4096
"""Bytes of a marker that are read."""


@dataclass(frozen=True)
class Marker(Record):
    """The purpose of a scratch folder, and the run that made it."""

    folder: str
    """The folder's own name: a copy under another name is not ours."""
    target: str
    """The name of the file or folder that is being written."""
    purpose: str
    claims: bool
    """Whether nobody else may write the target; only the next run to the same target may remove the folder."""
    process: int
    host: str


def write_marker(folder: Path, marker: Marker) -> int:
    """Write a new marker into `folder`. Returns the open file, locked before it holds anything. Raises OSError."""
    path = folder / MARKER
    handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        # On a file system without locks, nobody can take it either.
        with suppress(OSError):
            try_lock(handle)
        path.lstat()
        os.write(handle, json.dumps(marker.to_dict()).encode())
    except OSError:
        os.close(handle)
        raise
    return handle


def read_marker(folder: Path) -> Marker | None:
    """The marker of a scratch folder; None if the folder is not ours, or belongs to another user."""
    try:
        handle = _open_marker(folder)
    except OSError:
        return None
    try:
        marker = Marker.from_dict(json.loads(os.read(handle, _LONGEST)))
    except (OSError, ValueError, RecursionError, BundleError):
        return None
    finally:
        os.close(handle)
    return marker if marker.folder == folder.name else None


def lock_marker(folder: Path) -> int | None:
    """The open and locked marker of a folder that nobody uses; None if it is in use, or gone by now."""
    with suppress(OSError):
        handle = _open_marker(folder)
        with suppress(OSError):
            if try_lock(handle) and os.path.samestat(os.fstat(handle), (folder / MARKER).lstat()):
                return handle
        os.close(handle)
    return None


def find_marked(folder: Path) -> list[tuple[Path, Marker]]:
    """The scratch folders in `folder` with their markers, in use or not, sorted by name."""
    return [(path, marker) for path in _named(folder) if (marker := read_marker(path))]


def remove_unmarked(folder: Path) -> None:
    """Remove empty scratch folders in `folder`, left by runs that were killed as they began or ended."""
    for path in _named(folder):
        with suppress(OSError):
            if not read_marker(path):
                _remove_empty_marker(path)
                path.rmdir()


def is_scratch_name(name: str) -> bool:
    """Whether a folder of this name may be a scratch folder."""
    return _NAME.fullmatch(name) is not None


def try_lock(handle: int) -> bool:
    """Lock an open file or folder until it is closed. False if somebody else has locked it.

    Raises OSError if it cannot be locked.
    """
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _named(folder: Path) -> list[Path]:
    try:
        return sorted(Path(entry) for entry in os.scandir(folder) if is_scratch_name(entry.name))
    except OSError:
        return []


def _remove_empty_marker(folder: Path) -> None:
    with suppress(FileNotFoundError):
        handle = _open_marker(folder)
        try:
            if not os.fstat(handle).st_size and os.listdir(folder) == [MARKER] and try_lock(handle):
                (folder / MARKER).unlink()
        finally:
            os.close(handle)


def _open_marker(folder: Path) -> int:
    """Open a folder's marker. Raises OSError if either is a link, or belongs to another user."""
    place = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        handle = os.open(MARKER, os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=place)
        owners = {os.fstat(place).st_uid, os.fstat(handle).st_uid}
    finally:
        os.close(place)
    if owners == {os.geteuid()} and stat.S_ISREG(os.fstat(handle).st_mode):
        return handle
    os.close(handle)
    raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))
