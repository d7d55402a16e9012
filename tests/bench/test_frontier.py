"""The plot of effect against diversity: what is drawn where."""

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from pahi_rt.bench import frontier
from pahi_rt.cli import app


def run(*words: object) -> Result:
    return CliRunner().invoke(app, ["bench", "frontier", *map(str, words)])


def row(name: str, effect: float, diversity: float) -> dict[str, Any]:
    score = {"effect_size": effect, "effect_size_interval": [effect - 0.1, effect + 0.2]}
    return {"name": name, "diversity_ratio": {"value": diversity}, "scores": {"a": score}}


@pytest.fixture
def report() -> dict[str, Any]:
    rows = [row("Gaussian", 0, 1), row("pahi-0.01", 0.6, 0.7), row("pahi-0.1", 0.2, 0.9), row("hi-0.1", 0.1, 0.95)]
    group = {"prompts": 320, "rows": [*rows, row("eps x 0.8", 0.05, 0.9)]}
    return {"seeds": 5, "scorers": {"a": {"unit": "cosine", "trained": True}}, "groups": [group]}


def test_runs_are_lines_through_falling_weights_and_the_rest_are_points(report: dict[str, Any]) -> None:
    kinds, others = frontier.sort_rows(report["groups"][0]["rows"])
    names = {kind: [row["name"] for row in rows] for kind, rows in kinds.items()}
    assert names == {"pahi": ["pahi-0.1", "pahi-0.01"], "hi": ["hi-0.1"]}
    assert [row["name"] for row in others] == ["eps x 0.8"]


def test_bars_reach_to_the_ends_of_the_interval(report: dict[str, Any]) -> None:
    below, above = frontier._bars(report["groups"][0]["rows"], "a")
    assert below == pytest.approx([0.1] * 5)
    assert above == pytest.approx([0.2] * 5)


def test_a_plot_is_written(report: dict[str, Any], tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    (tmp_path / "report.json").write_text(json.dumps(report))
    assert run(tmp_path / "report.json", "-o", tmp_path / "plot.svg").exit_code == 0
    assert "KL weights" in (tmp_path / "plot.svg").read_text()


@pytest.mark.parametrize("content", ["", "{}", '{"scorers": {}, "groups": []}'])
def test_what_is_no_report(content: str, tmp_path: Path) -> None:
    (tmp_path / "report.json").write_text(content)
    result = run(tmp_path / "report.json", "-o", tmp_path / "plot.png")
    assert result.exit_code == 1
    assert "fix: write one: pahi-rt evaluate" in result.stderr
