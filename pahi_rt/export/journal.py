"""What an export has done so far, so that one that was cut off goes on instead of starting again."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from pahi_rt.bundle import file_record
from pahi_rt.errors import BundleError
from pahi_rt.files import write_whole
from pahi_rt.manifest import FileRecord, Graph, Parity
from pahi_rt.record import Record


@dataclass(frozen=True)
class Written(Record):
    """The graphs of one precision, and the files that hold them."""

    graphs: tuple[Graph, ...]
    files: dict[str, FileRecord]


@dataclass(frozen=True)
class Entries(Record):
    """The journal's file."""

    key: str
    """Fingerprint of the model and of all else that decides what is written."""
    written: dict[str, Written] = field(default_factory=dict)
    """Precision -> its graphs."""
    compared: dict[str, tuple[Parity, ...]] = field(default_factory=dict)
    """Name of a graph -> rows of its comparisons."""


class Journal:
    """The finished stages of an export into `folder`, remembered in `file`, which lies elsewhere."""

    def __init__(self, folder: Path, file: Path, entries: Entries) -> None:
        self._folder, self._file = folder, file
        self._entries = entries

    @property
    def compared(self) -> Mapping[str, tuple[Parity, ...]]:
        """Name of a graph -> rows of its comparisons, for those that are done."""
        return self._entries.compared

    def add_comparison(self, graph: str, rows: Sequence[Parity]) -> None:
        """Remember the comparisons of one graph."""
        self._entries.compared[graph] = tuple(rows)
        self._save()

    def graphs(self, precision: str) -> tuple[Graph, ...] | None:
        """The graphs of one precision; None if they are not written yet, or their files have changed since."""
        found = self._entries.written.get(precision)
        return found.graphs if found is not None and self._is_there(found) else None

    def add_graphs(self, precision: str, graphs: Sequence[Graph]) -> None:
        """Remember the graphs of one precision and hash their files; comparisons of older ones are forgotten."""
        for graph in graphs:
            self._entries.compared.pop(graph.file, None)
        names = {name for graph in graphs for name in (graph.file, *graph.weights)}
        records = {name: file_record(self._folder / name) for name in sorted(names)}
        self._entries.written[precision] = Written(tuple(graphs), records)
        self._save()

    def record(self, name: str) -> FileRecord:
        """Size and sha256 of a file in the folder. Graphs and their weights are not hashed again."""
        known = {file: record for written in self._entries.written.values() for file, record in written.files.items()}
        return known.get(name) or file_record(self._folder / name)

    def _is_there(self, written: Written) -> bool:
        paths = {self._folder / name: record for name, record in written.files.items()}
        return all(path.is_file() and file_record(path) == record for path, record in paths.items())

    def _save(self) -> None:
        write_whole(self._file, json.dumps(self._entries.to_dict()))


def open_journal(folder: Path, key: str) -> Journal:
    """The journal beside `folder`: that of an export of the same `key` which was cut off, or an empty one.

    What an export of another key has left in `folder` is removed.
    """
    file = folder.with_name("journal.json")
    found = _read(file)
    if found is not None and found.key == key:
        return Journal(folder, file, found)
    for path in folder.iterdir():
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    return Journal(folder, file, Entries(key))


def _read(path: Path) -> Entries | None:
    """The entries in a journal's file; None if there is none, or it cannot be read."""
    try:
        return Entries.from_dict(json.loads(path.read_bytes()), str(path))
    except (FileNotFoundError, ValueError, BundleError):
        return None
