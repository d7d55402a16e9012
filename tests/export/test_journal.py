"""A journal remembers finished stages of the same export, and only as long as their files are what they were."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from pahi_rt.bundle import Graph, Parity, file_record
from pahi_rt.export import journal
from pahi_rt.export.journal import FILE, Journal

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


def begin(folder: Path, key: str = "key") -> Journal:
    begun = Journal(folder)
    begun.begin(key)
    return begun


def test_what_is_finished_is_not_done_again(tmp_path: Path) -> None:
    write = Writer(tmp_path)
    first = begin(tmp_path)
    graphs = first.graphs("fp32", write)
    first.parity("one-step.onnx", lambda: [ROW])
    again = begin(tmp_path)
    assert tuple(again.graphs("fp32", write)) == tuple(graphs)
    assert again.parity("one-step.onnx", lambda: pytest.fail("it was compared again")) == (ROW,)
    assert write.calls == 1


def test_graphs_and_weights_are_hashed_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = begin(tmp_path)
    first.graphs("fp32", Writer(tmp_path))
    expected = {name: file_record(tmp_path / name) for name in ("one-step.onnx", "weights.bin")}
    (tmp_path / "tokenizer.json").write_text("{}")
    assert first.record("tokenizer.json") == file_record(tmp_path / "tokenizer.json")
    monkeypatch.setattr(journal, "file_record", lambda path: pytest.fail(f"{path} was hashed again"))
    assert {name: first.record(name) for name in expected} == expected


@pytest.mark.parametrize("name", ["one-step.onnx", "weights.bin"])
def test_files_that_changed_are_written_and_compared_again(tmp_path: Path, name: str) -> None:
    write = Writer(tmp_path)
    first = begin(tmp_path)
    first.graphs("fp32", write)
    first.parity("one-step.onnx", lambda: [ROW])
    (tmp_path / name).write_text("another")
    again = begin(tmp_path)
    again.graphs("fp32", write)
    assert again.parity("one-step.onnx", list) == ()
    assert write.calls == 2


def test_another_export_starts_in_an_empty_folder(tmp_path: Path) -> None:
    begin(tmp_path).graphs("fp32", Writer(tmp_path))
    (tmp_path / "engines").mkdir()
    begin(tmp_path, "other")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("content", ["", "{", "[]", '{"key": "key"}', '{"key": "key", "written": 1, "compared": {}}'])
def test_a_damaged_journal_starts_afresh(tmp_path: Path, content: str) -> None:
    write = Writer(tmp_path)
    begin(tmp_path).graphs("fp32", write)
    (tmp_path / FILE).write_text(content)
    begin(tmp_path).graphs("fp32", write)
    assert write.calls == 2
