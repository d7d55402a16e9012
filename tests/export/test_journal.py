"""A journal remembers finished stages of the same export, and only as long as their files are what they were."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from pahi_rt.bundle import file_record
from pahi_rt.export import journal
from pahi_rt.export.journal import Journal, open_journal
from pahi_rt.manifest import Graph, Parity

ROW = Parity("one-step.onnx", "PyTorch fp32", 0.0, 90.0, 1.0, "max error <= 0.002 of [0, 1]")


class Writer:
    """Writes one graph and its weights, and counts how often."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.calls = folder, 0

    def __call__(self) -> Sequence[Graph]:
        self.calls += 1
        for name in ("one-step.onnx", "weights.bin"):
            (self.folder / name).write_text("content")
        return [Graph("one-step.onnx", 1, "gaussian", "fp32", (), (), 20, ("weights.bin",))]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "new").mkdir()
    return tmp_path / "new"


def begin(folder: Path, key: str = "key") -> Journal:
    return open_journal(folder, key)


def graphs(journal: Journal, write: Writer) -> Sequence[Graph]:
    """The graphs that the journal has, or else those that are written now, as an export does it."""
    if (found := journal.graphs("fp32")) is None:
        found = tuple(write())
        journal.add_graphs("fp32", found)
    return found


def test_what_is_finished_is_not_done_again(folder: Path) -> None:
    write = Writer(folder)
    first = begin(folder)
    written = graphs(first, write)
    first.add_comparison("one-step.onnx", [ROW])
    again = begin(folder)
    assert graphs(again, write) == written
    assert again.compared == {"one-step.onnx": (ROW,)}
    assert write.calls == 1


def test_graphs_and_weights_are_hashed_once(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = begin(folder)
    graphs(first, Writer(folder))
    expected = {name: file_record(folder / name) for name in ("one-step.onnx", "weights.bin")}
    (folder / "tokenizer.json").write_text("{}")
    assert first.record("tokenizer.json") == file_record(folder / "tokenizer.json")
    monkeypatch.setattr(journal, "file_record", lambda path: pytest.fail(f"{path} was hashed again"))
    assert {name: first.record(name) for name in expected} == expected


@pytest.mark.parametrize("name", ["one-step.onnx", "weights.bin"])
def test_files_that_changed_are_written_and_compared_again(folder: Path, name: str) -> None:
    write = Writer(folder)
    first = begin(folder)
    graphs(first, write)
    first.add_comparison("one-step.onnx", [ROW])
    (folder / name).write_text("another")
    again = begin(folder)
    graphs(again, write)
    assert again.compared == {}
    assert write.calls == 2


def test_another_export_starts_in_an_empty_folder(folder: Path) -> None:
    graphs(begin(folder), Writer(folder))
    (folder / "engines").mkdir()
    begin(folder, "other")
    assert not list(folder.iterdir())


@pytest.mark.parametrize("content", ["", "{", "[]", '{"key": "key"}', '{"key": "key", "written": 1, "compared": {}}'])
def test_a_damaged_journal_starts_afresh(folder: Path, content: str) -> None:
    write = Writer(folder)
    graphs(begin(folder), write)
    folder.with_name("journal.json").write_text(content)
    graphs(begin(folder), write)
    assert write.calls == 2
