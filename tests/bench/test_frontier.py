"""The plot of effect against diversity: what is drawn where."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from pahi_rt.bench import frontier
from pahi_rt.bench.reports.frontier import EarlierComparison, FrontierGroup, FrontierReport, FrontierRow
from pahi_rt.cli import app
from pahi_rt.comparison import Comparison
from pahi_rt.evaluate.report import Ratio, ScorerNote


def run(*words: object) -> Result:
    return CliRunner().invoke(app, ["bench", "frontier", *map(str, words)])


def row(name: str, effect: float, diversity: float) -> FrontierRow:
    score = Comparison(
        independent_win_rate_percent=50,
        independent_win_rate_std_percent=0,
        independent_win_rate_interval_percent=None,
        same_noise_win_rate_percent=50,
        same_noise_win_rate_std_percent=0,
        same_noise_win_rate_interval_percent=None,
        margin_win_rate_percent=50,
        effect_size=effect,
        effect_size_interval=(effect - 0.1, effect + 0.2),
        mean_score=0,
        gaussian_mean_score=0,
        seed_std=1,
    )
    return FrontierRow(name, 1, 0, Ratio(diversity, None), None, {"a": score})


@pytest.fixture
def report() -> FrontierReport:
    rows = (row("Gaussian", 0, 1), row("pahi-0.01", 0.6, 0.7), row("pahi-0.1", 0.2, 0.9), row("hi-0.1", 0.1, 0.95))
    groups = (FrontierGroup("all", 320, 320, 32, (*rows, row("eps x 0.8", 0.05, 0.9))),)
    return FrontierReport("runs", 1, 5, 16, "filters", "float32", "a", {"a": ScorerNote("cosine", True)}, groups)


def test_runs_are_lines_through_falling_weights_and_the_rest_are_points(report: FrontierReport) -> None:
    kinds, others = frontier.sort_rows(report.groups[0].rows)
    names = {kind: [row.name for row in rows] for kind, rows in kinds.items()}
    assert names == {"pahi": ["pahi-0.1", "pahi-0.01"], "hi": ["hi-0.1"]}
    assert [row.name for row in others] == ["eps x 0.8"]


def test_bars_reach_to_the_ends_of_the_interval(report: FrontierReport) -> None:
    below, above = frontier.reaches(report.groups[0].rows, "a")
    assert below == pytest.approx([0.1] * 5)
    assert above == pytest.approx([0.2] * 5)


def test_a_plot_is_written(report: FrontierReport, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    (tmp_path / "report.json").write_text(json.dumps(report.to_dict()))
    assert run(tmp_path / "report.json", "-o", tmp_path / "plot.svg").exit_code == 0
    assert "KL weights" in (tmp_path / "plot.svg").read_text()


def test_an_earlier_report_is_read() -> None:
    kept = Path(__file__).parents[2] / "bench" / "results" / "emoji-356-frontier.json"
    scores = frontier.read_report(kept).groups[-1].rows[0].scores
    assert {type(score) for score in scores.values()} == {EarlierComparison}


@pytest.mark.parametrize("content", ["", "{}", '{"scorers": {}, "groups": []}'])
def test_what_is_no_report(content: str, tmp_path: Path) -> None:
    (tmp_path / "report.json").write_text(content)
    result = run(tmp_path / "report.json", "-o", tmp_path / "plot.png")
    assert result.exit_code == 1
    assert "fix: write one: pahi-rt evaluate" in result.stderr
