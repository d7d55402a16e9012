"""Reports: read strictly, and counted only for the files, the version and the device that they are about."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pahi_rt.bundle import Bundle, file_record, open_bundle, verify, write_manifest
from pahi_rt.errors import BundleError, ReportError, RuntimeUnavailable
from pahi_rt.manifest import REPORT
from pahi_rt.qualification import (
    FORMAT,
    Measure,
    Qualification,
    Row,
    find_report,
    format_report,
    name_device,
    objection,
    objection_here,
    parse_report,
    read_report,
    require_pass,
)
from pahi_rt.runtimes.base import Description

DESCRIPTION: Description = {"runtime": "onnxruntime", "version": "9.9", "device": "CPU"}
FAILED = Measure(0.5, (0.4, 0.6), 0.9, "at least", "fail", "a reason")


def make_row(bundle: Bundle, number: int = 0, **changes: Any) -> Row:
    graph = bundle.manifest.graphs[number]
    row = Row(
        graph=graph.file,
        files=bundle.graph_files(graph),
        precision=graph.precision,
        steps=graph.steps,
        prior=graph.prior,
        runtime="onnxruntime",
        version="9.9",
        device=name_device(DESCRIPTION),
        reference="PyTorch fp32",
        pairs=2,
        prompts=2,
        verdict="pass",
        measures={},
        missing={},
        worst=(),
    )
    return replace(row, **changes)


def make_report(bundle: Bundle, *rows: Row) -> Qualification:
    return Qualification(FORMAT, bundle.manifest.name, "0.1.0", rows)


@pytest.fixture
def bundle(folder: Path) -> Bundle:
    return open_bundle(folder)


def list_report(bundle: Bundle, report: Qualification) -> Bundle:
    (bundle.path / REPORT).write_text(format_report(report))
    files = {**bundle.manifest.files, REPORT: file_record(bundle.path / REPORT)}
    write_manifest(bundle.path, replace(bundle.manifest, files=files))
    return open_bundle(bundle.path)


def test_a_report_in_the_bundle_changes_no_hash_that_pictures_are_recorded_under(bundle: Bundle) -> None:
    write_manifest(bundle.path, bundle.manifest)  # as export writes it
    before = open_bundle(bundle.path).sha256
    listed = list_report(bundle, make_report(bundle, make_row(bundle)))
    assert listed.sha256 == before
    verify(listed)
    assert find_report(listed) == make_report(bundle, make_row(bundle))
    assert find_report(bundle) is None


def test_a_report_that_was_changed_is_refused(bundle: Bundle) -> None:
    listed = list_report(bundle, make_report(bundle))
    (bundle.path / REPORT).write_text(format_report(make_report(bundle, make_row(bundle))))
    with pytest.raises(BundleError):
        find_report(listed)


@pytest.mark.parametrize(
    "change",
    [
        lambda data: data.update(surprise=1),
        lambda data: data.update(format_version=2),
        lambda data: data["rows"][0].update(verdict="perhaps"),
        lambda data: data["rows"][0].pop("measures"),
    ],
)
def test_reports_are_read_strictly(bundle: Bundle, tmp_path: Path, change: Callable[[Any], object]) -> None:
    data = json.loads(format_report(make_report(bundle, make_row(bundle))))
    assert parse_report(json.dumps(data).encode(), "x").rows[0].verdict == "pass"
    change(data)
    (tmp_path / "report.json").write_text(json.dumps(data))
    with pytest.raises(ReportError) as caught:
        read_report(tmp_path / "report.json")
    path = tmp_path / "report.json"
    assert caught.value.fix == f"mv {path} {path}.old && pahi-rt qualify BUNDLE -o {path}"


def test_what_is_no_report(tmp_path: Path) -> None:
    with pytest.raises(ReportError, match="cannot be read: No such file") as caught:
        read_report(tmp_path / "none.json")
    assert caught.value.fix == f"write it: pahi-rt qualify BUNDLE -o {tmp_path / 'none.json'}"
    with pytest.raises(ReportError, match="not valid JSON"):
        parse_report(b"{", "x")


def test_a_row_counts_for_what_it_was_measured_with(bundle: Bundle) -> None:
    row = make_row(bundle)
    assert objection(row, bundle, "9.9", row.device) is None
    assert objection(row, bundle, None) is None
    assert "10.0 is installed" in str(objection(row, bundle, "10.0"))
    assert "measured on" in str(objection(row, bundle, "9.9", "CPU (other)"))
    exported_again = replace(row, files={**row.files, row.graph: "0" * 64})
    assert "another hash" in str(objection(exported_again, bundle, "9.9"))
    other_weights = replace(row, files={**row.files, "weights.bin": "0" * 64})
    assert "another hash" in str(objection(other_weights, bundle, "9.9"))
    assert "another hash" in str(objection(replace(row, graph="gone.onnx"), bundle, "9.9"))


@pytest.mark.parametrize(
    ("device", "gpu", "what"),
    [
        ("CPU (x86_64, avx512)", None, "measured on CPU (x86_64, avx512), and this is CPU ("),
        ("CUDA, compute capability 86", "86", ""),
        ("CUDA, compute capability 86", "90", "and this is CUDA, compute capability 90"),
        ("CUDA, compute capability 86", None, "and this is a machine without an NVIDIA GPU"),
        ("CUDA", None, ""),  # what the runtime says where the driver does not tell
        ("CUDA", "86", "and this is CUDA, compute capability 86"),
    ],
)
def test_a_row_counts_on_its_kind_of_device(
    bundle: Bundle, device: str, gpu: str | None, what: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pahi_rt.runtimes.cuda.read_capability", lambda: gpu)
    monkeypatch.setattr("onnxruntime.__version__", "9.9")
    assert objection_here(make_row(bundle), bundle) is None
    assert what in (objection_here(make_row(bundle, device=device), bundle) or "")
    assert bool(what) is (objection_here(make_row(bundle, device=device), bundle) is not None)


def test_a_row_of_what_is_not_installed_does_not_count(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "openvino", None)
    assert objection_here(make_row(bundle, runtime="openvino"), bundle) == "openvino is not installed here"


@pytest.mark.parametrize(
    ("changes", "what"),
    [
        ({"runtime": "openvino"}, "there is no report of it"),
        ({"version": "9.8"}, "stale: it is about onnxruntime 9.8, and 9.9 is installed"),
        ({"verdict": "inconclusive"}, "says inconclusive"),
        ({"verdict": "fail", "measures": {"ssim": FAILED}}, r"says fail \(ssim\)"),
    ],
)
def test_only_a_fresh_pass_is_a_pass(bundle: Bundle, changes: dict[str, Any], what: str) -> None:
    graph = bundle.manifest.graphs[0]
    require_pass(bundle, graph, DESCRIPTION, [make_report(bundle, make_row(bundle))])
    with pytest.raises(RuntimeUnavailable, match=what) as caught:
        require_pass(bundle, graph, DESCRIPTION, [make_report(bundle, make_row(bundle, **changes))])
    assert "pahi-rt qualify" in caught.value.fix and "--runtimes onnxruntime" in caught.value.fix


def test_one_passing_report_among_several_is_enough(bundle: Bundle) -> None:
    stale, fresh = make_row(bundle, version="9.8"), make_row(bundle)
    reports = [make_report(bundle, stale), make_report(bundle, fresh)]
    require_pass(bundle, bundle.manifest.graphs[0], DESCRIPTION, reports)
