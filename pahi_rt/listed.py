"""A file that a manifest lists, opened once: the bytes that are used are the bytes that were checked.

Small files are read into memory, and the bytes that were hashed are handed on. Weights take gigabytes, and runtimes map
them by their path: they are hashed here, and must be unchanged after the runtime has loaded them.
"""

from __future__ import annotations

import hashlib
import os
import pickletools
import stat
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from itertools import islice
from pathlib import Path

from pahi_rt.errors import BundleError
from pahi_rt.manifest import FileRecord, is_pickle_name

_PART = 1 << 20
"""Bytes that are read at once."""
_HEAD = 4096
"""Bytes at the beginning of a file in which a pickle is recognised."""
_TICK = 0.02
"""Seconds. On local disks the timestamps of files are finer than this."""


class ListedFile:
    """An open file of a bundle. Every method may raise BundleError; `fix` says how to repair the bundle."""

    def __init__(self, path: Path, descriptor: int, record: FileRecord, fix: str) -> None:
        self.path = path
        self._descriptor, self._record, self._fix = descriptor, record, fix
        # Taken before a byte is read, so that `confirm` notices every later change.
        self._identity = _identify(path)
        self.status = os.fstat(descriptor)

    def check(self) -> None:
        """Check that it has the listed size and sha256, and is not a pickle."""
        self._hash(lambda part: None)

    def read(self) -> bytes:
        """Read it, checked."""
        parts: list[bytes] = []
        self._hash(parts.append)
        return b"".join(parts)

    def copy(self, target: Path) -> None:
        """Copy it, checked, to `target`. If this raises, `target` is not usable. Raises OSError too."""
        with target.open("wb") as file:
            self._hash(file.write)

    def confirm(self) -> None:
        """Check that its path still leads to the file that was opened, and that nobody has written to it."""
        found = _identity(self.path)
        # The path may have changed between opening the file and looking at the path, so compare the open file too.
        if found is None or found != self._identity or not os.path.samestat(self.path.stat(), self.status):
            raise _changed(self.path)

    def _hash(self, take: Callable[[bytes], object]) -> None:
        """Read it part by part into `take`. Raises unless the whole file is what the manifest says."""
        size, expected = self.status.st_size, self._record
        if size != expected.size:
            raise BundleError(f"{self.path} has {size} bytes instead of {expected.size}", fix=self._fix)
        digest, head = hashlib.sha256(), b""
        for part in self._parts(size):
            head = head or part[:_HEAD]
            digest.update(part)
            take(part)
        if digest.hexdigest() != expected.sha256:
            raise BundleError(f"{self.path} has been changed: its sha256 is not the manifest's", fix=self._fix)
        if is_pickle(self.path.name, head):
            raise BundleError(f"{self.path} is a pickle; a bundle must hold none", fix=self._fix)

    def _parts(self, size: int) -> Iterator[bytes]:
        offset = 0
        while offset < size:
            try:
                part = os.pread(self._descriptor, min(_PART, size - offset), offset)
            except OSError as error:
                raise _unreadable(self.path, error, self._fix) from error
            if not part:
                return
            offset += len(part)
            yield part


class ListedFolders:
    """The folders on the way to some files of a bundle, by their names and by where links lead."""

    def __init__(self, folder: Path, names: Iterable[str]) -> None:
        paths = [folder / name for name in names]
        # By their names, and with all symbolic links resolved.
        ends = [(folder, path) for path in paths]
        ends += [(Path(os.path.realpath(folder)), Path(os.path.realpath(path))) for path in paths]
        places = {parent for top, path in ends for parent in path.parents if parent.is_relative_to(top)}
        self._identities = {place: _identify(place) for place in sorted(places)}

    def confirm(self) -> None:
        """Check that no folder was moved (not even there and back), and that no entry was made or removed in one."""
        for place, identity in self._identities.items():
            if identity is None or _identity(place) != identity:
                raise _changed(place)


@contextmanager
def checking(files: Sequence[ListedFile]) -> Iterator[None]:
    """Check files in a thread of its own for as long as the context runs: a runtime may map weights in the meantime.

    What was loaded must not be used if this raises BundleError, which it does at the end, also after an error inside.
    """
    with ThreadPoolExecutor(1) as hashing:
        checks = [hashing.submit(file.check) for file in files]
        try:
            yield
        finally:
            for check in checks:
                check.result()


@contextmanager
def open_listed(path: Path, record: FileRecord, fix: str) -> Iterator[ListedFile]:
    """Open a listed file; it is closed at the end. Raises BundleError."""
    with _opened(path, fix) as descriptor:
        yield ListedFile(path, descriptor, record, fix)


def read_bounded(path: Path, most: int, fix: str) -> bytes:
    """Read a file that no manifest lists. Raises BundleError, also if it has more than `most` bytes."""
    with _opened(path, fix) as descriptor, open(descriptor, "rb", closefd=False) as file:
        content = file.read(most + 1)
    if len(content) > most:
        raise BundleError(f"{path} has more than {most} bytes", fix=fix)
    return content


def is_pickle(name: str, head: bytes) -> bool:
    """Whether a file is a pickle by its name or its first bytes: a bare pickle, or a zip of one as PyTorch writes."""
    if is_pickle_name(name):
        return True
    if head.startswith(b"PK\x03\x04"):
        return b".pkl" in head
    return head[:1] == b"\x80" and head[1:2] in (b"\x02", b"\x03", b"\x04", b"\x05") and _has_opcodes(head)


def _has_opcodes(head: bytes) -> bool:
    # Weights may begin with the same two bytes by chance, but are hardly a valid pickle program after them.
    try:
        return len(list(islice(pickletools.genops(head), 6))) > 1
    except ValueError:
        return False


@contextmanager
def _opened(path: Path, fix: str) -> Iterator[int]:
    """The descriptor of a regular file. Opening never blocks, as it would for a pipe. Raises BundleError."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    except (OSError, ValueError) as error:
        raise _unreadable(path, error, fix) from error
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise BundleError(f"{path} is not a file", fix=fix)
        yield descriptor
    finally:
        os.close(descriptor)


def _unreadable(path: Path, error: Exception, fix: str) -> BundleError:
    reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return BundleError(f"{path} cannot be read: {reason}", fix=fix)


def _changed(path: Path) -> BundleError:
    what = f"{path} has been changed while it was loaded"
    return BundleError(what, fix="leave the bundle alone while it is opened, and try again")


def _identify(path: Path) -> tuple[int, ...] | None:
    """The identity of a file, taken so that it differs after every later change; None if it is not there.

    Two changes within one tick of the clock look like one, so this waits for the next tick after a recent change.
    """
    found = _identity(path)
    if found is not None and time.time_ns() - max(found[4::5]) < _TICK * 1e9:  # its times of change
        time.sleep(_TICK)
    return found


def _identity(path: Path) -> tuple[int, ...] | None:
    """Status fields that a replacement, a write, and a rename there and back change; None if the file is not there.

    They are those of the path itself, then those of the file that it leads to if it is a link.
    """
    try:
        found = path.lstat(), path.stat()
    except OSError:
        return None
    keys = ("st_dev", "st_ino", "st_size", "st_mtime_ns", "st_ctime_ns")
    return tuple(getattr(status, key) for status in found for key in keys)
