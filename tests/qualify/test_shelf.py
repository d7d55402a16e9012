"""Where reports lie: a bundle stays whole, and nothing of the user's is lost."""

from __future__ import annotations

import os
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from pahi_rt.bundle import Bundle, changing, open_bundle, verify, write_manifest
from pahi_rt.errors import BundleError, OutputError
from pahi_rt.files import write_whole
from pahi_rt.manifest import REPORT, Manifest
from pahi_rt.qualification import find_report, read_report
from pahi_rt.qualify import shelf as shelves
from pahi_rt.qualify.shelf import open_shelf
from pahi_rt.scratch import claim
from tests.test_qualification import make_row


@pytest.fixture
def bundle(folder: Path) -> Bundle:
    write_manifest(folder, open_bundle(folder).manifest)
    return open_bundle(folder)


def test_rows_are_added_and_replaced(bundle: Bundle) -> None:
    before = bundle.sha256
    with open_shelf(bundle, None) as shelf:
        assert not (bundle.path / REPORT).exists()
        shelf.add(make_row(bundle, 0))
        shelf.add(make_row(bundle, 1))
    with open_shelf(open_bundle(bundle.path), None) as shelf:
        shelf.add(make_row(bundle, 0, version="10.0"))
        shelf.add(make_row(bundle, 0, runtime="openvino"))
    after = open_bundle(bundle.path)
    verify(after)
    assert after.sha256 == before
    report = find_report(after)
    assert report is not None
    assert [(row.graph, row.runtime, row.version) for row in report.rows] == [
        ("two-step.onnx", "onnxruntime", "9.9"),
        ("one-step.onnx", "onnxruntime", "10.0"),
        ("one-step.onnx", "openvino", "9.9"),
    ]
    assert not [name for name in os.listdir(bundle.path) if name.startswith(".")]


def test_rows_about_earlier_graphs_are_dropped(bundle: Bundle) -> None:
    with open_shelf(bundle, None) as shelf:
        shelf.add(make_row(bundle, 0))
    write_whole(bundle.path / REPORT, (bundle.path / REPORT).read_text().replace("one-step.onnx", "old-step.onnx"))
    with open_shelf(bundle, None) as shelf:
        assert shelf.report.rows == ()


@pytest.mark.parametrize("fails_at", [0, 1])
def test_a_write_that_fails_loses_no_row(bundle: Bundle, monkeypatch: pytest.MonkeyPatch, fails_at: int) -> None:
    """Before and after the report itself is replaced: the old one or the new one is found by the next run."""
    before = bundle.sha256
    with open_shelf(bundle, None) as shelf:
        shelf.add(make_row(bundle, 0))
    left = iter([*[True] * fails_at, False])

    def fill(place: Path, manifest: Manifest) -> None:
        if not next(left):
            raise OSError(28, "No space left on device")
        write_manifest(place, manifest)

    with monkeypatch.context() as patched:
        patched.setattr(shelves, "write_manifest", fill)
        with pytest.raises(OutputError), open_shelf(open_bundle(bundle.path), None) as shelf:
            shelf.add(make_row(bundle, 1))
    verify(open_bundle(bundle.path))
    with open_shelf(open_bundle(bundle.path), None) as shelf:
        assert len(shelf.report.rows) == 1 + fails_at
        shelf.add(make_row(bundle, 1))
    after = open_bundle(bundle.path)
    verify(after)
    assert after.sha256 == before


def test_the_built_in_bundle_is_left_alone(tmp_path: Path) -> None:
    emoji = open_bundle("emoji")
    with pytest.raises(BundleError, match="stays as it is") as caught, open_shelf(emoji, None):
        pass
    assert "-o FILE.json" in caught.value.fix
    with open_shelf(emoji, tmp_path / "report.json") as shelf:
        shelf.add(make_row(emoji))
    assert len(read_report(tmp_path / "report.json").rows) == 1


@pytest.mark.parametrize("content", ["hours of work", "{}"])
def test_a_file_of_the_users_is_left_alone(bundle: Bundle, tmp_path: Path, content: str) -> None:
    for place, output in ((bundle.path / REPORT, None), (tmp_path / "x.json", tmp_path / "x.json")):
        place.write_text(content)
        with pytest.raises(OutputError, match="is there already"), open_shelf(bundle, output):
            pass
        assert place.read_text() == content


def test_the_report_of_another_bundle_is_not_added_to(bundle: Bundle, tmp_path: Path) -> None:
    with open_shelf(open_bundle("emoji"), tmp_path / "x.json") as shelf:
        shelf.add(make_row(open_bundle("emoji")))
    with pytest.raises(OutputError, match="of another bundle, 'emoji'"), open_shelf(bundle, tmp_path / "x.json"):
        pass


def test_a_place_that_cannot_be_written_is_found_first(bundle: Bundle, tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="does not exist"), open_shelf(bundle, tmp_path / "no" / "x.json"):
        pass
    with pytest.raises(OutputError), open_shelf(bundle, tmp_path):
        pass


def test_an_error_of_another_file_is_not_the_reports(bundle: Bundle) -> None:
    with pytest.raises(ConnectionError), open_shelf(bundle, None):
        raise ConnectionError("no network")


def test_two_runs_at_once(bundle: Bundle) -> None:
    for target, verb in ((bundle.path / REPORT, "qualify"), (bundle.path, "export")):
        busy = pytest.raises(OutputError, match=f"another {verb} is writing")
        with claim(target, verb), busy, open_shelf(bundle, None):
            pass


def test_what_another_run_lists_meanwhile_stays_listed(bundle: Bundle) -> None:
    def add() -> None:
        with open_shelf(bundle, None) as shelf:
            shelf.add(make_row(bundle))

    with ThreadPoolExecutor() as pool:
        with changing(bundle.path, "build") as now:
            adding = pool.submit(add)
            time.sleep(0.2)  # as far as it comes
            write_manifest(now.path, replace(now.manifest, tools={**now.manifest.tools, "builder": "1"}))
        adding.result(timeout=60)
    after = open_bundle(bundle.path)
    assert "builder" in after.manifest.tools and REPORT in after.manifest.files
    verify(after)


def test_a_bundle_that_was_exported_again_meanwhile(bundle: Bundle) -> None:
    row = make_row(bundle, files={"one-step.onnx": "0" * 64})
    with open_shelf(bundle, None) as shelf, pytest.raises(BundleError, match="exported again"):
        shelf.add(row)
    assert not (bundle.path / REPORT).exists()
