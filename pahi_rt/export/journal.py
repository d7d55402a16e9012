"""What an export has done so far, so that one that was cut off goes on instead of starting again."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterable, Sequence
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
    key: str
    """Of the model and all else that decides what is written."""
    written: dict[str, Written] = field(default_factory=dict)
    """By precision."""
    compared: dict[str, tuple[Parity, ...]] = field(default_factory=dict)
    """By graph."""


class Journal:
    """The stages that are finished in the folder of an export, remembered in `file`, which lies elsewhere.

    Nothing is remembered before `begin`.
    """

    def __init__(self, folder: Path, file: Path) -> None:
        self._folder, self._file = folder, file
        self._entries = Entries("")

    def begin(self, key: str) -> None:
        """Go on where an export of the same key was cut off; whatever another one has left is removed."""
        found = _read(self._file)
        if found is not None and found.key == key:
            self._entries = found
            return
        for path in self._folder.iterdir():
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        self._entries = Entries(key)

    def graphs(self, precision: str, write: Callable[[], Sequence[Graph]]) -> Sequence[Graph]:
        """What `write` has written of a precision, and else does now; files must still be what they were."""
        found = self._entries.written.get(precision)
        if found is None or not self._is_there(found):
            graphs = tuple(write())
            self._forget(graph.file for graph in graphs)
            self._entries.written[precision] = Written(graphs, self._records(graphs))
            self._save()
            return graphs
        return found.graphs

    def parity(self, graph: str, compare: Callable[[], Sequence[Parity]]) -> Sequence[Parity]:
        """What `compare` has found of a graph, and else does now."""
        if graph not in self._entries.compared:
            self._entries.compared[graph] = tuple(compare())
            self._save()
        return self._entries.compared[graph]

    def record(self, name: str) -> FileRecord:
        """Size and sha256 of a file in the folder; graphs and their weights have been hashed before."""
        known = {file: record for written in self._entries.written.values() for file, record in written.files.items()}
        return known.get(name) or file_record(self._folder / name)

    def _is_there(self, written: Written) -> bool:
        paths = {self._folder / name: record for name, record in written.files.items()}
        return all(path.is_file() and file_record(path) == record for path, record in paths.items())

    def _records(self, graphs: Iterable[Graph]) -> dict[str, FileRecord]:
        names = {name for graph in graphs for name in (graph.file, *graph.weights)}
        return {name: file_record(self._folder / name) for name in sorted(names)}

    def _forget(self, graphs: Iterable[str]) -> None:
        for graph in graphs:
            self._entries.compared.pop(graph, None)

    def _save(self) -> None:
        write_whole(self._file, json.dumps(self._entries.to_dict()))


def _read(path: Path) -> Entries | None:
    """None if there is none, or none that can be read."""
    try:
        return Entries.from_dict(json.loads(path.read_bytes()), str(path))
    except (FileNotFoundError, ValueError, BundleError):
        return None
