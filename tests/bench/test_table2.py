"""Table 2 of the embedded model: what is in it, and what happens where something does not work."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from pahi_rt.bench import limits, machine, table2
from pahi_rt.bench.reports.report import Limits
from pahi_rt.bench.reports.table2 import Table2Report
from pahi_rt.bench.table2 import Row, Settings, measure
from pahi_rt.cli import app
from pahi_rt.errors import BundleError, PahiError
from pahi_rt.runtimes import NAMES

LIMITS = Limits("", fp32_gflop_per_s=100.0, int8_gop_per_s=400.0, copy_gb_per_s=10.0, threads=2)
QUICK = Settings(("onnxruntime", "tensorrt-rtx"), pictures=2, batches=(1, 2), scored=0, is_forced=True)
ROWS = ["1 step", "HI, 1 step", "PAHI, 1 step", "2 steps", "HI, 2 steps", "PAHI, 2 steps"]
CACHED = ["1 step cached", "HI, 1 step cached", "PAHI, 1 step cached"]


@pytest.fixture(scope="module")
def measured() -> Table2Report:
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(table2, "measure_limits", lambda threads: LIMITS)
        patched.setattr(table2, "peak_memory", lambda *_: 123.4)
        return measure("emoji", QUICK)


@pytest.fixture
def report(measured: Table2Report) -> dict[str, Any]:
    return measured.to_dict()


def test_every_row_is_timed_against_one_step(report: dict[str, Any]) -> None:
    runtime = report["runtimes"][0]
    rows = {row["row"]: row for row in runtime["rows"]}
    assert list(rows) == ROWS + CACHED
    assert rows["1 step"]["time_over_one_step"] == {"median": 1, "low": 1, "high": 1}
    for name, row in rows.items():
        assert row["ms"]["n"] == 2
        assert (row["prompt"], row["peak_rss_mib"]) == (("cached", None) if name in CACHED else ("fresh", 123.4))
        assert row["scores"] is None
    assert rows["PAHI, 2 steps"]["prior"] == "pahi"
    assert set(runtime["images_per_s"]) == {"1", "2"}
    assert set(runtime["components_ms"]) == {"text encoder", "prior", "unet", "decoder"}


def test_limits_are_those_of_what_a_row_computes(report: dict[str, Any]) -> None:
    rows = {row["row"]: row["limit_ms"] for row in report["runtimes"][0]["rows"]}
    work = report["work"]
    assert rows["PAHI, 1 step"] == pytest.approx(sum(part["limit_ms"] for part in work.values()), abs=0.02)
    assert rows["1 step cached"] < rows["1 step"] < rows["PAHI, 1 step"] < rows["2 steps"]
    for row in report["runtimes"][0]["rows"]:
        share = 100 * row["limit_ms"] / row["ms"]["median"]
        assert row["share_of_limit_percent"] == pytest.approx(share, rel=0.02)


def run(*words: object) -> Result:
    return CliRunner().invoke(app, ["bench", *map(str, words)])


def test_a_runtime_that_does_not_work_is_listed_with_its_reason(report: dict[str, Any]) -> None:
    missing = report["runtimes"][1]
    assert set(missing) == {"runtime", "reason", "fix"}
    assert missing["runtime"] == "tensorrt-rtx"


def test_the_command_prints_the_table_or_json(
    measured: Table2Report, report: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Settings] = []
    monkeypatch.setattr(table2, "measure", lambda bundle, settings, on_row: asked.append(settings) or measured)
    options = ("--runtimes", "onnxruntime,tensorrt-rtx", "--pictures", 2, "--batches", "1,2", "--scored", 0, "--force")
    result = run("table2", "emoji", *options, "-o", tmp_path / "t.json")
    assert result.exit_code == 0, result.stderr
    assert asked == [QUICK]
    lines = result.stdout.splitlines()
    assert json.loads((tmp_path / "t.json").read_text()) == report
    assert any(line.startswith("  PAHI, 2 steps ") for line in lines)
    assert any(line.startswith("tensorrt-rtx: ") for line in lines)
    document = run("table2", "emoji", *options, "--json").stdout
    assert json.loads(document) == report


def test_all_runtimes_can_be_asked_for(measured: Table2Report, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Settings] = []
    monkeypatch.setattr(table2, "measure", lambda bundle, settings, on_row: asked.append(settings) or measured)
    assert run("table2", "emoji", "--runtimes", "all").exit_code == 0
    assert asked[0].runtimes == NAMES[1:]  # not auto, which is one of them


@pytest.mark.parametrize("batches", ["0", "1,x", ""])
def test_sizes_that_make_no_batch(batches: str) -> None:
    result = run("table2", "emoji", "--batches", batches, "--force")
    assert result.exit_code == 2
    assert "--batches takes numbers" in result.stderr


def test_a_busy_machine_is_refused_before_anything_is_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "is_busy", lambda: True)
    monkeypatch.setattr(table2, "measure_limits", lambda threads: pytest.fail("measured"))
    with pytest.raises(PahiError) as caught:
        measure("emoji", Settings())
    assert caught.value.fix == "wait, or add --force"


def test_a_precision_that_the_bundle_lacks() -> None:
    with pytest.raises(BundleError, match="has no precision 'int3'"):
        measure("emoji", Settings(precision="int3", is_forced=True))


def test_names_of_rows() -> None:
    assert str(Row("gaussian", 1)) == "1 step"
    assert str(Row("pahi", 2)) == "PAHI, 2 steps"
    assert str(Row("hi", 1, is_cached=True)) == "HI, 1 step cached"


def test_rates_of_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "SIZE", 128)
    monkeypatch.setattr(limits, "COPIED_BYTES", 2**20)
    measured = limits.measure_limits(1).to_dict()
    assert measured["threads"] == 1
    assert all(0.1 < measured[name] < 1e5 for name in ("fp32_gflop_per_s", "int8_gop_per_s", "copy_gb_per_s"))
