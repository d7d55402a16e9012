"""Files of prompts, on this machine or behind any URL of fsspec: which there are, and their content.

Formats: text (a prompt a line), CSV, TSV, JSON Lines and Parquet; all but Parquet also compressed (.gz, .bz2, .xz).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import takewhile
from pathlib import PurePosixPath
from typing import Any
from urllib.parse import unquote

from fsspec.compression import compr

from pahi_rt.bulk.place import described, open_place, speaks
from pahi_rt.bulk.sample import clean
from pahi_rt.errors import PahiError, PromptError

FORMATS = (".txt", ".csv", ".tsv", ".jsonl", ".parquet")
_CODECS = {".gz": "gzip", ".bz2": "bz2", ".xz": "xz", ".zst": "zstd"}
"""Ending of a compressed file -> the name that fsspec has for it."""
_GLOB = frozenset("*?[")


@dataclass(frozen=True)
class File:
    """One file of prompts."""

    place: Any
    """Its file system."""
    path: str
    """Where it is there."""
    name: str
    """Its name in the ids of its rows, which does not depend on the machine."""

    @property
    def url(self) -> str:
        """Where it is, for people."""
        return str(self.place.unstrip_protocol(self.path))

    @property
    def format(self) -> str:
        """The ending that says how it is read, in lower case; "" if it has none."""
        path = PurePosixPath(self.name.lower())
        return path.with_suffix("").suffix if path.suffix in _CODECS else path.suffix

    @property
    def codec(self) -> str | None:
        """How it is compressed, by fsspec's name; None if it is not, or if its reader sees to that."""
        return None if self.format == ".parquet" else _CODECS.get(PurePosixPath(self.name.lower()).suffix)


def find_files(prompts: str, output: str | None = None) -> list[File]:
    """The files of a path or URL: one file, all in a folder, or those that match a pattern, sorted by name.

    Hidden ones are left out unless a pattern asks for such, and so are those in the folder `output`. Raises PromptError
    if there are none or if one has an unknown ending, and PahiError if the package for its compression is missing.
    """
    place, root = open_place(prompts)
    with described(prompts, "check the path or the URL"):
        paths, base = _find(place, root)
    ours = _inside(place, base, output)
    kept = sorted(path for path in paths if ours is None or not path.startswith(ours))
    files = [File(place, path, clean(_plain(place, path).removeprefix(base))) for path in kept]
    if not _is_hidden(_plain(place, root)[len(base) :]):
        files = [file for file in files if not _is_hidden(file.name)]
    if not files:
        raise PromptError(f"there are no prompts at {prompts}", fix=f"give a file ({', '.join(FORMATS)}) or a folder")
    for file in files:
        _check_readable(file)
    return files


def _find(place: Any, root: str) -> tuple[list[str], str]:
    """Paths, and the beginning of all of them that is not a part of the names."""
    if not root.endswith("/") and place.isfile(root):
        return [root], _plain(place, root)[: _plain(place, root).rfind("/") + 1]
    if place.isdir(root):
        return list(map(str, place.find(root))), _plain(place, root).rstrip("/") + "/"
    if _GLOB & set(root):
        found = place.glob(root, detail=True)
        return [path for path, facts in found.items() if facts["type"] != "directory"], _fixed_part(root)
    return [], root


def _plain(place: Any, path: str) -> str:
    """The path as it would be on a disk: without what follows it in an address of the web, and its escapes."""
    return unquote(re.split("[?#]", path)[0]) if speaks(place, "https") else path


def _is_hidden(path: str) -> bool:
    return any(part.startswith((".", "_")) for part in path.split("/"))


def _inside(place: Any, base: str, output: str | None) -> str | None:
    """What the paths in the folder `output` begin with, if it lies in the folder `base` of the same place."""
    other, path = open_place(output) if output else (None, "")
    begin = path.rstrip("/") + "/"
    return begin if other == place and begin.startswith(base) and begin != base else None


def _check_readable(file: File) -> None:
    if file.format not in FORMATS:
        fix = f"use one of {', '.join(FORMATS)}; plain text, one prompt a line, is .txt"
        raise PromptError(f"{file.url} has an unknown file type", fix=fix)
    if file.codec is not None and file.codec not in compr:
        raise PahiError(f"{file.url} needs a package that is not installed", fix="pip install zstandard")


def _fixed_part(pattern: str) -> str:
    parts = pattern.split("/")
    return "".join(f"{part}/" for part in takewhile(lambda part: not _GLOB & set(part), parts))


@contextmanager
def opened(file: File) -> Iterator[Any]:
    """The content of a file, unpacked. Raises PromptError as `described` does."""
    with described(file.url, "check it, or fetch it again"), file.place.open(file.path, "rb") as content:
        if file.codec is None:
            yield content
            return
        with compr[file.codec](content, mode="rb") as unpacked:
            yield unpacked
