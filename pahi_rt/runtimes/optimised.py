"""Graphs as ONNX Runtime has optimised them for this processor, kept in the user's cache for the next start.

Optimising takes most of the time in which a small model is loaded. An optimised graph holds its weights cast and laid
out for the processor. It draws the same bytes as the graph that it was made from, which is still checked at every
start. An entry is used only if it was made from the same graph and weights, by the same ONNX Runtime, for the same
processor; if its folder is open to the user only; and if nobody has written to its files since. Anything else is made
again. That nobody has written is seen in the files' status: to hash them took longer than to load them.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pahi_rt.bundle import OpenGraph
from pahi_rt.cache import cache_folder, is_private, make_private
from pahi_rt.choice import Chosen
from pahi_rt.errors import BundleError
from pahi_rt.files import write_whole
from pahi_rt.listed import read_bounded
from pahi_rt.machine import cpu_identity
from pahi_rt.manifest_file import write_json
from pahi_rt.record import Record, parse_json
from pahi_rt.scratch import scratch, sweep

MOST_WEIGHTS = 1 << 27
"""Bytes. An entry takes as much again, or twice as much. Larger models spend little of their time on optimising."""
MOST_ENTRIES = 8
"""Older ones are removed."""
_GRAPH, _WEIGHTS, _RECORD = "graph.onnx", "weights.bin", "entry.json"
_LAYOUT = "2"
"""Counts what changes the content of an entry and is not in its key otherwise."""
_MOST_RECORD = 1 << 16
_FIX = "nothing: it is made again"


@dataclass(frozen=True)
class Entry(Record):
    """What an entry holds."""

    key: str
    files: dict[str, str]
    """Name -> status (`_statuses`) when the entry was made."""


@dataclass(frozen=True)
class Shelf:
    """The place of one optimised graph, filled or not."""

    folder: Path

    def open(self) -> OpenGraph:
        """What is kept. Raises BundleError or OSError if nothing is, or nothing that can be used."""
        if not is_private(self.folder):
            raise BundleError(f"{self.folder} is open to others", fix=_FIX)
        record, path = self.folder / _RECORD, self.folder / _GRAPH
        entry = Entry.from_dict(parse_json(read_bounded(record, _MOST_RECORD, _FIX), str(record)), str(record))
        if entry != Entry(self.folder.name, _statuses(self.folder)):
            raise BundleError(f"{record} is of other files", fix=_FIX)
        return OpenGraph(path, path.read_bytes())

    @contextmanager
    def filling(self, options: Any) -> Iterator[None]:
        """Have the session that is made with `options` inside this context write its graph, and keep it.

        Raises OSError.
        """
        shutil.rmtree(self.folder, ignore_errors=True)
        make_private(self.folder.parent)
        sweep(self.folder.parent, silent=True)
        with scratch(self.folder, "optimise") as place:
            made = place / self.folder.name
            made.mkdir(mode=0o700)
            options.optimized_model_filepath = str(made / _GRAPH)
            options.add_session_config_entry("session.optimized_model_external_initializers_file_name", _WEIGHTS)
            options.add_session_config_entry("session.optimized_model_external_initializers_min_size_in_bytes", "1024")
            yield
            write_whole(made / _RECORD, write_json(Entry(self.folder.name, _statuses(made))))
            with suppress(OSError):  # another process has made the same by now
                os.rename(made, self.folder)
        _remove_old(self.folder.parent)


def find_shelf(chosen: Chosen, onnxruntime: Any) -> Shelf | None:
    """The place for what `onnxruntime` makes of the chosen graph on this processor; None for a large model."""
    if chosen.bundle.weights_size(chosen.graph) > MOST_WEIGHTS:
        return None
    contents = chosen.bundle.graph_files(chosen.graph).values()
    versions = [_LAYOUT, str(onnxruntime.__version__), str(onnxruntime.get_build_info()), cpu_identity()]
    key = hashlib.sha256("\n".join([*contents, *versions]).encode()).hexdigest()
    return Shelf(cache_folder("onnxruntime", key))


def _statuses(folder: Path) -> dict[str, str]:
    """What every write to the two files, and every replacement of them, changes. Raises OSError."""
    found = {name: os.stat(folder / name) for name in (_GRAPH, _WEIGHTS)}
    return {name: f"{s.st_ino} {s.st_size} {s.st_mtime_ns} {s.st_ctime_ns}" for name, s in found.items()}


def _remove_old(folder: Path) -> None:
    with suppress(OSError):
        entries = [path for path in folder.iterdir() if not path.name.startswith(".")]
        newest_first = sorted(entries, key=lambda path: path.stat().st_mtime, reverse=True)
        for path in newest_first[MOST_ENTRIES:]:
            shutil.rmtree(path, ignore_errors=True)
