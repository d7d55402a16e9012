"""Name files, write them whole or not at all, and turn errors of the operating system into errors with a fix."""

from __future__ import annotations

import errno
import hashlib
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pahi_rt.errors import OutputError
from pahi_rt.scratch import scratch, sweep
from pahi_rt.terminal import command

LONGEST_NAME = 48
"""Characters of a file name that is made of words, without its number and its ending."""


def slug(prompt: str) -> str:
    """A file name for a prompt, without its ending: the words with dashes between, or "picture" if it has none."""
    words = "-".join(re.findall(r"[^\W_]+", prompt.lower()))
    return words[:LONGEST_NAME].strip("-") or "picture"


def write_whole(path: Path, content: bytes | str) -> None:
    """Write a file; text is encoded as UTF-8. A kill leaves the old file or the new one. Raises OSError."""
    with writing_whole(path) as new:
        new.write_bytes(content.encode() if isinstance(content, str) else content)


@contextmanager
def writing_whole(path: Path) -> Iterator[Path]:
    """A path for a library to write to. At the end, the new file takes the place of `path`. Raises OSError."""
    path = path.absolute()
    sweep(path.parent)
    with scratch(path, "write") as folder:
        yield folder / path.name
        os.replace(folder / path.name, path)


def sha256(*paths: Path) -> str:
    """sha256 of the files' contents, one after the other; for one file, what sha256sum prints. Raises OSError."""
    digest = hashlib.sha256()
    for path in paths:
        with path.open("rb") as file:
            while chunk := file.read(1 << 20):
                digest.update(chunk)
    return digest.hexdigest()


def explain(error: Exception, place: Path, otherwise: str = "or choose another output") -> OutputError:
    """Explain why `place` could not be written: an OutputError with a fix, which ends with `otherwise`.

    The error number is also found in the text of libraries that have it nowhere else ("... (os error 28)", as
    safetensors).
    """
    number = _number(error)
    reason = os.strerror(number) if number else str(error)
    what, mend = _REASONS.get(number, ("{place} cannot be written: {reason}", "check {parent}"))
    words = {"place": place, "reason": reason, "parent": command(_parent(place))}
    words["inside"] = command(place / "NAME")
    return OutputError(what.format(**words), fix=f"{mend.format(**words)}, {otherwise}")


def _parent(place: Path) -> Path:
    try:
        return place.absolute().parent
    except OSError:  # the current folder is gone
        return place.parent


def _number(error: Exception) -> int:
    if isinstance(error, OSError) and error.errno:
        return error.errno
    told = re.search(r"\(os error (\d+)\)", str(error))
    return int(told[1]) if told else 0


_FULL = "{place} cannot be written: {reason}", "free some space in {parent}"
_FORBIDDEN = (
    "{place} cannot be written: you have no permission in {parent}",
    "permit it (`ls -ld {parent}` says who may)",
)
_REASONS = {
    errno.EBUSY: ("{place} is a mount point or in use, so nothing can take its place", "name a folder in it: {inside}"),
    errno.EXDEV: ("{place} lies on another file system than {parent}", "name a folder in it: {inside}"),
    errno.ENOSPC: _FULL,
    errno.EDQUOT: _FULL,
    errno.EACCES: _FORBIDDEN,
    errno.EPERM: _FORBIDDEN,
    errno.EROFS: ("{place} is on a file system that is read-only", "mount it writable"),
    errno.ENAMETOOLONG: ("the name {place} is too long", "use a shorter name"),
    errno.ENOENT: ("{place} cannot be written: the folder {parent} does not exist", "mkdir -p {parent}"),
    errno.ENOTDIR: ("{place} cannot be written: a part of {parent} is not a folder", "check the path"),
    errno.EISDIR: ("{place} is a folder, not a file", "name a file"),
    errno.ENOTEMPTY: ("{place} is not empty", "move away what is in it"),
    errno.EEXIST: ("{place} exists already", "move it away"),
    errno.ELOOP: ("{place} is behind a loop of symbolic links", "check the path"),
}
"""Error number -> what it means for a file or folder that is written, and how to fix it."""
