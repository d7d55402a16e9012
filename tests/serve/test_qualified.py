"""`serve --qualified`: nothing draws that a report does not let pass."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from pahi_rt.bundle import Bundle, open_bundle
from pahi_rt.choice import choose
from pahi_rt.cli import app
from pahi_rt.errors import PahiError, ReportError, RuntimeUnavailable
from pahi_rt.qualification import Qualification, Row, format_report, name_device
from pahi_rt.runtimes import load
from pahi_rt.serve.qualified import load_qualified
from pahi_rt.serve.server import open_models
from pahi_rt.serve.settings import Settings, check_settings
from tests.test_qualification import list_report, make_report, make_row


@pytest.fixture
def bundle(folder: Path) -> Bundle:
    return open_bundle(folder)


@pytest.fixture
def rows(bundle: Bundle) -> list[Row]:
    """Rows of both graphs that pass on this machine."""
    found = load(bundle, name="onnxruntime").describe()
    here = {"version": str(found["version"]), "device": name_device(found)}
    return [make_row(bundle, number, **here) for number in (0, 1)]


def write(path: Path, report: Qualification) -> Path:
    path.write_text(format_report(report))
    return path


def settings(bundle: Bundle, *reports: Path, **options: Any) -> Settings:
    return Settings((str(bundle.path),), qualified=True, reports=reports, **options)


@pytest.mark.parametrize("runtime", ["auto", "onnxruntime"])
@pytest.mark.parametrize("inside", [True, False])
def test_what_passes_is_loaded(bundle: Bundle, rows: list[Row], tmp_path: Path, runtime: str, inside: bool) -> None:
    report = make_report(bundle, *rows)
    files = [] if inside else [write(tmp_path / "report.json", report)]
    opened = list_report(bundle, report) if inside else bundle
    assert [model.name for model in open_models(settings(opened, *files, runtime=runtime))] == ["contract"]
    pipeline = load_qualified(files)(choose(opened, runtime=runtime))
    assert pipeline("a cat").size == (32, 32)


def test_without_a_report_it_does_not_start(bundle: Bundle) -> None:
    result = CliRunner().invoke(app, ["serve", str(bundle.path), "--qualified"])
    assert result.exit_code == 1
    error, fix = result.stderr.splitlines()
    assert error.startswith("error: one-step.onnx of bundle 'contract' is not qualified for any runtime here")
    assert fix.startswith(f"fix: pahi-rt qualify {bundle.path} --runtimes all --precisions fp32")


def test_every_graph_that_is_offered_needs_its_row(bundle: Bundle, rows: list[Row]) -> None:
    opened = list_report(bundle, make_report(bundle, rows[0]))
    with pytest.raises(
        RuntimeUnavailable,
        match="two-step.onnx of bundle 'contract' is not qualified for any runtime here",
    ):
        open_models(settings(opened))


@pytest.mark.parametrize(
    ("changes", "what"),
    [
        ({"version": "0.1"}, "its report is stale: it is about onnxruntime 0.1"),
        ({"device": "CPU (avx1024)"}, r"its report is stale: it was measured on CPU \(avx1024\)"),
        ({"verdict": "fail"}, "its report says fail"),
        ({"verdict": "inconclusive"}, "its report says inconclusive"),
        ({"runtime": "openvino"}, "there is no report of it"),
    ],
)
def test_what_does_not_pass_is_not_loaded(bundle: Bundle, rows: list[Row], changes: dict[str, Any], what: str) -> None:
    opened = list_report(bundle, make_report(bundle, rows[0], replace(rows[1], **changes)))
    with pytest.raises(RuntimeUnavailable, match=f"two-step.onnx .* not qualified for onnxruntime here: {what}"):
        load_qualified([])(choose(opened, runtime="onnxruntime"))


@pytest.mark.parametrize("runtime", ["auto", "onnxruntime"])
def test_a_failure_is_refused_before_it_listens(bundle: Bundle, rows: list[Row], runtime: str) -> None:
    opened = list_report(bundle, make_report(bundle, rows[0], replace(rows[1], verdict="fail")))
    with pytest.raises(RuntimeUnavailable, match="two-step.onnx .* its report says fail"):
        open_models(settings(opened, runtime=runtime))


def test_a_runtime_without_a_row_is_refused_before_it_listens(bundle: Bundle, rows: list[Row]) -> None:
    opened = list_report(bundle, make_report(bundle, *rows))
    with pytest.raises(RuntimeUnavailable, match="not qualified for openvino here"):
        open_models(settings(opened, runtime="openvino"))


def test_reports_of_other_bundles_do_not_count(bundle: Bundle, rows: list[Row], tmp_path: Path) -> None:
    report = replace(make_report(bundle, *rows), bundle="other")
    with pytest.raises(RuntimeUnavailable, match="there is no report of it"):
        open_models(settings(bundle, write(tmp_path / "r.json", report)))
    with pytest.raises(ReportError, match="cannot be read"):
        open_models(settings(bundle, tmp_path / "none.json"))


def test_a_report_alone_has_no_effect(bundle: Bundle, tmp_path: Path) -> None:
    with pytest.raises(PahiError, match="a report has no effect by itself"):
        check_settings(Settings((str(bundle.path),), reports=(tmp_path / "r.json",)))
