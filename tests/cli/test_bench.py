"""`pahi-rt bench`: what its verbs share. Each benchmark has its own tests in tests/bench."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from pahi_rt.bench import latency, pairs
from pahi_rt.bench.reports.latency import LatencyReport
from pahi_rt.cli import bench
from tests.cli.conftest import Run

RESULTS = Path(bench.__file__).parents[1] / "bench" / "results"
VERBS = ["latency", "bulk", "stages", "scaling", "shards", "serve", "playground"]
VERBS += ["best", "table2", "peers", "precisions", "operators", "sensitivity", "cuda", "pairs", "frontier", "documents"]


@pytest.fixture
def report(monkeypatch: pytest.MonkeyPatch) -> LatencyReport:
    """What `bench latency` is to have measured."""
    data = json.loads((RESULTS / "amd-epyc-avx2-2-cores" / "emoji-latency.json").read_text())
    measured = LatencyReport.from_dict(data)
    monkeypatch.setattr(latency, "measure", lambda *_: measured)
    return measured


def test_every_benchmark_is_a_verb(run: Run) -> None:
    verbs = [command.callback for command in bench.app.registered_commands]
    assert [verb.__name__ for verb in verbs if verb is not None] == VERBS
    assert all(f"\n  {verb} " in run("bench", "--help").stdout for verb in VERBS)


@pytest.mark.parametrize("verb", VERBS)
def test_help_needs_no_extra(run: Run, verb: str, without: Callable[[str], None]) -> None:
    without("torch")
    result = run("bench", verb, "--help")
    assert result.exit_code == 0
    assert f"Usage: pahi-rt bench {verb}" in result.stdout


def test_a_report_is_printed_as_text_or_as_json(run: Run, report: LatencyReport, tmp_path: Path) -> None:
    result = run("bench", "latency", "-o", str(tmp_path / "latency.json"))
    assert [line.split()[0] for line in result.stdout.splitlines()] == ["on", "emoji", "one", "two", "cold"]
    assert json.loads((tmp_path / "latency.json").read_text()) == report.to_dict()
    assert json.loads(run("bench", "latency", "--json").stdout) == report.to_dict()


def test_what_was_measured_is_printed_even_if_it_cannot_be_written(
    run: Run, report: LatencyReport, tmp_path: Path
) -> None:
    result = run("bench", "latency", "-o", str(tmp_path / "nowhere" / "latency.json"))
    assert result.exit_code == 1
    assert result.stderr.startswith("error: ") and "or choose another --output" in result.stderr
    assert json.loads(result.stdout) == report.to_dict()


def test_a_missing_package_names_the_extra(run: Run, without: Callable[[str], None]) -> None:
    without("torch")
    result = run("bench", "cuda")
    assert result.exit_code == 1
    assert result.stderr.endswith("fix: pip install 'pahi-rt[train,export,bench]'\n")


def test_figure_1_is_of_the_recipe_named_like_the_bundle(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[str, str]] = []
    monkeypatch.setattr(pairs, "write_sheet", lambda bundle, recipe, output: asked.append((bundle, recipe)) or output)
    assert run("bench", "pairs", "-o", "x.png").stdout == "x.png\n"
    assert run("bench", "pairs", "mine", "--recipe", "other", "-o", "x.png").exit_code == 0
    assert asked == [("emoji", "emoji"), ("mine", "other")]


@pytest.mark.parametrize(
    "words", [["cuda", "--pictures", "0"], ["cuda", "--device", "tpu"], ["latency", "--starts", "0"]]
)
def test_wrong_usage_exits_with_2(run: Run, words: list[str]) -> None:
    assert run("bench", *words).exit_code == 2
