"""The store: a run's folder, on this machine or in an object store.

A shard's files are written into a folder that nobody else looks into, and are put into place when all of them are
there; its stats come last. So a shard without stats does not count, and is made again over what is left of it. Two
runs that make the same shard write the same bytes.
"""

from __future__ import annotations

import errno
import os
import shutil
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from pahi_rt.bulk.layout import is_ours
from pahi_rt.bulk.place import described, open_place, speaks
from pahi_rt.errors import OutputError
from pahi_rt.files import explain
from pahi_rt.scratch import check_idle, scratch, sweep

T = TypeVar("T")

_THEN = "give the same command again, without overwrite: it goes on where it was"
ANEW = "remove NNNNN_stats.json of each shard concerned, and give the command of `bulk` again: it is made anew"
_BUCKETS = ("s3", "gs", "gcs", "abfs", "az", "oss")
"""Protocols of object stores."""
_PAUSES = (0.5, 2.0)
"""Seconds before each further attempt in an object store."""


class LocalStore:
    """A folder of this machine's file systems."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.url = str(root)

    def prepare(self) -> None:
        """Make the folder, and remove what killed runs have left in it. Raises OutputError."""
        with _explained(self.root):
            self.root.mkdir(parents=True, exist_ok=True)
            sweep(self.root)

    def tidy(self) -> None:
        """Remove what workers of this run were writing when they were dismissed."""
        sweep(self.root, silent=True)

    def is_idle(self) -> bool:
        """Whether no run is known to be drawing into it."""
        try:
            check_idle(self.root)
        except OutputError:
            return False
        return True

    def names(self) -> list[str]:
        """The names in the folder, none if it is not there. Raises OutputError."""
        with _readable(self.root):
            return sorted(os.listdir(self.root)) if self.root.exists() else []

    def sizes(self) -> dict[str, int]:
        """What is ours in the folder -> its bytes. Raises OutputError."""
        with _readable(self.root):
            return {name: bytes_of(self.root / name) for name in os.listdir(self.root) if is_ours(name)}

    def has(self, name: str) -> bool:
        """Whether there is a file of this name. Raises OutputError."""
        with _readable(self.root / name):
            return (self.root / name).exists()

    def read(self, name: str) -> bytes:
        """The content of a file. Raises OutputError."""
        with _readable(self.root / name):
            return (self.root / name).read_bytes()

    def read_all(self, names: Sequence[str]) -> Iterator[bytes]:
        """The contents of many files. Raises OutputError."""
        return map(self.read, names)

    @contextmanager
    def workshop(self, name: str) -> Iterator[Path]:
        """An empty folder on the same file system, for the files of one shard. Raises OutputError."""
        with _explained(self.root / name), scratch(self.root / name, "write") as folder:
            yield folder

    def publish(self, made: Path) -> None:
        """Put a finished file or folder into place, over what has its name. Raises OutputError."""
        target = self.root / made.name
        with _explained(target):
            _flush(made)
            while not _put(made, target):  # another run may put its own there at the same moment
                with suppress(FileNotFoundError):
                    os.replace(target, tempfile.mkdtemp(dir=made.parent))

    def open(self, name: str) -> Any:
        """Open a file to read. Raises OutputError."""
        with _readable(self.root / name):
            return (self.root / name).open("rb")

    def remove(self, names: Sequence[str]) -> None:
        """Remove files and folders of ours. Raises OutputError."""
        for path in (self.root / name for name in names if is_ours(name)):
            with _explained(path):
                shutil.rmtree(path) if path.is_dir() else path.unlink()


class RemoteStore:
    """A folder behind a URL of fsspec. A failed transfer is tried again; an object appears whole."""

    def __init__(self, url: str) -> None:
        self.url = url
        self._place, self._root = open_place(url)

    def prepare(self) -> None:
        """Make the folder, where there is such a thing. Raises OutputError.

        Not in a bucket, which has none: a bucket of a mistyped name would be made.
        """
        sweep(_here())
        if not any(speaks(self._place, protocol) for protocol in _BUCKETS):
            self._try(lambda: self._place.makedirs(self._root, exist_ok=True))

    def tidy(self) -> None:
        """Remove what workers of this run were writing on this machine when they were dismissed."""
        sweep(_here(), silent=True)

    def is_idle(self) -> bool:
        """Whether no run is known to be drawing into it: here, nobody can know."""
        return True

    def names(self) -> list[str]:
        """The names in the folder, none if it is not there. Raises OutputError."""
        return self._try(self._list)

    def _list(self) -> list[str]:
        self._place.invalidate_cache()
        try:
            found = self._place.ls(self._root, detail=False)
        except FileNotFoundError:
            return []
        return sorted(str(path).rstrip("/").rpartition("/")[2] for path in found if str(path) != self._root)

    def sizes(self) -> dict[str, int]:
        """What is in the folder -> its bytes. Raises OutputError."""
        self._place.invalidate_cache()
        found = self._try(lambda: self._place.find(self._root, detail=True))
        sizes: Counter[str] = Counter()
        for path, facts in found.items():
            sizes[str(path).removeprefix(self._path("")).partition("/")[0]] += facts["size"]
        return sizes

    def has(self, name: str) -> bool:
        """Whether there is a file of this name. Raises OutputError."""
        return self._try(lambda: bool(self._place.exists(self._path(name))))

    def read(self, name: str) -> bytes:
        """The content of a file. Raises OutputError."""
        return self._try(lambda: bytes(self._place.cat_file(self._path(name))))

    def read_all(self, names: Sequence[str]) -> Iterator[bytes]:
        """The contents of many files, a thousand at once. Raises OutputError."""
        for start in range(0, len(names), 1000):
            paths = [self._path(name) for name in names[start : start + 1000]]
            found = self._try(partial(self._place.cat, paths))
            yield from (found[path] for path in paths)

    @contextmanager
    def workshop(self, name: str) -> Iterator[Path]:
        """An empty folder on this machine, for the files of one shard."""
        with _explained(_here() / name), scratch(_here() / name, "write") as folder:
            yield folder

    def publish(self, made: Path) -> None:
        """Upload a finished file, or the files of a folder, over what has their names. Raises OutputError."""
        target = self._path(made.name)
        if not made.is_dir():
            self._try(lambda: self._place.put_file(str(made), target))
            return
        files = sorted(made.iterdir())
        self._try(lambda: self._place.put(list(map(str, files)), [f"{target}/{file.name}" for file in files]))

    def open(self, name: str) -> Any:
        """Open a file to read. Raises OutputError."""
        return self._try(lambda: self._place.open(self._path(name), "rb"))

    def remove(self, names: Sequence[str]) -> None:
        """Remove files and folders of ours. Raises OutputError."""
        for name in filter(is_ours, names):
            self._try(partial(self._place.rm, self._path(name), recursive=True))

    def _path(self, name: str) -> str:
        return f"{self._root.rstrip('/')}/{name}"

    def _try(self, attempt: Callable[[], T]) -> T:
        for pause in _PAUSES:
            try:
                return attempt()
            except Exception:  # of any library; the last attempt says what it was
                time.sleep(pause)
        with described(self.url, f"mend the store, then {_THEN}", OutputError):
            return attempt()


Store = LocalStore | RemoteStore


def open_store(url: str) -> Store:
    """The store of a path or URL. Raises PahiError if a package for it is missing."""
    place, path = open_place(url)
    return LocalStore(Path(path)) if speaks(place, "file") else RemoteStore(url)


def _here() -> Path:
    """Where shards are written before they are uploaded: $TMPDIR, else /tmp."""
    return Path(tempfile.gettempdir())


def bytes_of(path: Path) -> int:
    """The size of a file, or of all files in a folder. Raises OSError."""
    return sum(file.stat().st_size for file in (path.iterdir() if path.is_dir() else [path]))


@contextmanager
def _explained(place: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise explain(error, place, f"then {_THEN}") from error


@contextmanager
def _readable(place: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        fix = f"restore it, permit reading it, or {ANEW}"
        raise OutputError(f"{place} cannot be read: {error.strerror or error}", fix=fix) from error


def _put(made: Path, target: Path) -> bool:
    """Put a file or folder into place. False if a folder that is not empty is there. Raises OSError."""
    try:
        os.replace(made, target)
    except OSError as error:
        if error.errno in (errno.ENOTEMPTY, errno.EEXIST):
            return False
        raise
    return True


def _flush(path: Path) -> None:
    """Have a file or folder on the disk before its name, so that a power cut leaves none empty. Raises OSError."""
    if path.is_dir():
        os.sync()  # at once: a folder of thousands of pictures would wait for the disk as often
        return
    with path.open("rb") as file:
        os.fsync(file.fileno())
