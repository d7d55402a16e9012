"""Builds a folder that replaces another one when it is finished: the old or the new one is there, whatever happens.

Whether the output can be replaced is tried before any work. Replacing removes the files that belong to the old folder's
kind, by name. A folder that holds anything else is refused, and files that come into it meanwhile are kept.
"""

from __future__ import annotations

import ctypes
import errno
import logging
import os
import shutil
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from pahi_rt.bundle import open_bundle
from pahi_rt.errors import OutputError, PahiError
from pahi_rt.files import explain, write_whole
from pahi_rt.manifest import MANIFEST
from pahi_rt.scratch import Scratch, check_idle, claim, clear, is_scratch
from pahi_rt.terminal import command

NEW, OLD = "new", "old"
_INODE = "inode"
"""File that holds the inode number of NEW, to tell it from the old folder after an exchange that was cut off."""
_SHOWN = 3
_AT_FDCWD, _RENAME_EXCHANGE = -100, 2  # of Linux

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Kind:
    """Folders that may be replaced."""

    name: str
    verb: str
    """Verb that writes them."""
    files: Callable[[Path], list[str]]
    """Names of a folder's own files, the file that lists them last. Raises PahiError if it is not of this kind."""


def _list_bundle(folder: Path) -> list[str]:
    return [*open_bundle(folder).manifest.files, MANIFEST]


BUNDLE = Kind("bundle", "export", _list_bundle)


@contextmanager
def building(output: Path, kind: Kind, *, overwrite: bool, resume: bool = False) -> Iterator[Path]:
    """Lock `output` and yield a folder beside it that replaces it at the end.

    An error removes the folder. With `resume`, the folder of an export that was cut off is continued, and an error
    leaves it. Files may be written beside the folder, too, and live as long as it does. Raises OutputError, also for
    any OSError inside.
    """
    try:
        _check_place(output)
        with claim(output, kind.verb, resume=resume, settle=partial(_settle, output, kind)) as scratch:
            _try_rename(scratch, output)
            _check_output(output, kind, overwrite)
            new = scratch.path / NEW
            new.mkdir(exist_ok=True)
            yield new
            _reveal(scratch, output, kind, overwrite)
    except OSError as error:
        raise explain(error, output) from error


def _check_place(output: Path) -> None:
    place, here = Path(os.path.realpath(output)), Path.cwd()
    if output.name in ("", "..") or here.is_relative_to(place):
        what = f"{output} is the folder that you are in, or one above it, and nothing can take its place"
        raise OutputError(what, fix=f"name a folder in it: {command('-o', output / 'NAME')}")
    if os.path.ismount(output):
        raise OSError(errno.EBUSY, os.strerror(errno.EBUSY))


def _try_rename(scratch: Scratch, output: Path) -> None:
    """Raises the OSError that the last rename would raise, by trying one that must fail and looking at the reason."""
    if not _exists(output):
        return
    full = scratch.path / "full"
    (full / "folder").mkdir(parents=True, exist_ok=True)
    try:
        os.rename(output, full)
    except OSError as error:
        if error.errno not in (errno.ENOTEMPTY, errno.EEXIST, errno.EISDIR, errno.ENOTDIR):
            raise
    finally:
        shutil.rmtree(full)


def _exists(path: Path) -> bool:
    """Whether there is anything at `path`, a broken link included. Raises OSError for an impossible name."""
    try:
        path.lstat()
    except FileNotFoundError:
        return False
    return True


def _check_output(output: Path, kind: Kind, overwrite: bool) -> None:
    if not _exists(output):
        return
    if not overwrite:
        fix = f"choose another output, or overwrite the {kind.name} (--force)"
        raise OutputError(f"{output} exists already", fix=fix)
    refused = f"{output} is not a {kind.name}, so it will not be overwritten"
    if not output.is_dir():
        raise OutputError(refused, fix="choose another output")
    if not output.is_symlink():  # only the link itself is replaced
        check_idle(output)
        _check_contents(output, kind, refused)


def _check_contents(output: Path, kind: Kind, refused: str) -> None:
    try:
        names = kind.files(output) if any(output.iterdir()) else []
    except PahiError as error:
        raise OutputError(f"{refused}: {error.what}", fix="choose another output") from error
    strangers = [name for name in _contents(output, names) if name not in names]
    if strangers:
        listed = ", ".join(strangers[:_SHOWN]) + (", ..." if len(strangers) > _SHOWN else "")
        what = f"{output} holds what is not of the {kind.name}: {listed}"
        raise OutputError(what, fix="move it away, or choose another output")


def _contents(folder: Path, names: Collection[str]) -> Iterator[str]:
    """All files and links in `folder`, and, with a slash, the folders that hold none of `names`, which are not entered.

    Links are not followed, and scratch folders are left out.
    """
    holders = {parent for name in names for parent in Path(name).parents}
    for root, folders, files in os.walk(folder):
        place, below = Path(root), Path(root).relative_to(folder)
        inner = [name for name in folders if below / name in holders and not (place / name).is_symlink()]
        others = [f"{name}/" for name in folders if name not in inner and not is_scratch(place / name)]
        yield from ((below / name).as_posix() for name in files)
        yield from (f"{(below / name).as_posix()}/" for name in others)
        folders[:] = inner


def _reveal(scratch: Scratch, output: Path, kind: Kind, overwrite: bool) -> None:
    new = scratch.path / NEW
    try:
        _check_output(output, kind, overwrite)  # again: hours may have passed
        if _exists(output):
            swap(scratch.path, output)
        else:
            new.rename(output)
    except (OSError, OutputError) as error:
        told = explain(error, output) if isinstance(error, OSError) else error
        scratch.give_away(NEW)
        fix = f"move it to another place: {command('mv', new, 'NAME')}"
        raise OutputError(f"{told.what}; the finished {kind.name} lies in {new}", fix=fix) from error
    _remove_old(scratch, kind)


def swap(folder: Path, output: Path) -> None:
    """Move NEW in `folder` to `output`, and what is there to OLD."""
    new, old = folder / NEW, folder / OLD
    write_whole(folder / _INODE, str(new.stat().st_ino))
    if exchange(new, output):
        new.rename(old)
        return
    output.rename(old)
    try:
        new.rename(output)
    except OSError:
        old.rename(output)
        raise


def exchange(one: Path, other: Path) -> bool:
    """Swap two names in one step. False where the system or the file system cannot do that. Raises OSError."""
    library = ctypes.CDLL(None, use_errno=True)
    if not hasattr(library, "renameat2"):
        return False
    if library.renameat2(_AT_FDCWD, os.fsencode(one), _AT_FDCWD, os.fsencode(other), _RENAME_EXCHANGE) == 0:
        return True
    number = ctypes.get_errno()
    if number in (errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP):
        return False
    raise OSError(number, os.strerror(number))


def _settle(output: Path, kind: Kind, left: Scratch) -> bool:
    """Finish what a run that was cut off at its end had begun: bring the old folder back, or remove it.

    Returns whether NEW is there to go on with.
    """
    new, old, inode = (left.path / name for name in (NEW, OLD, _INODE))
    if inode.exists() and new.exists() and inode.read_text() != str(new.lstat().st_ino):
        new.rename(old)  # it is the old one
    if _exists(old) and not _exists(output):
        old.rename(output)
        _log.warning("put back what had been moved away: %s", output)
    _remove_old(left, kind)
    return new.is_dir()


def _remove_old(scratch: Scratch, kind: Kind) -> None:
    """Remove the old folder's own files, by name. Whatever else has come into it stays where it is."""
    old = scratch.path / OLD
    if old.is_symlink():
        old.unlink()
    if not old.exists():
        return
    with suppress(OSError, PahiError):
        clear(old)
        names = kind.files(old)
        present = set(_contents(old, names))
        for name in names:
            if name in present:
                (old / name).unlink()
    for root, _, _ in os.walk(old, topdown=False):
        with suppress(OSError):  # it is not empty
            os.rmdir(root)
    if old.exists():
        scratch.give_away(OLD)
        _log.warning("kept what is not of the %s that was replaced: %s", kind.name, old)
