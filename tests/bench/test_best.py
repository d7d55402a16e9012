"""The best of several as a benchmark: what is counted, on scores that are known."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from pahi_rt.bench import best_plot, markdown, text
from pahi_rt.bench.best import SEEDS, Row, Way, choose, compare, list_rows, measure
from pahi_rt.bench.reports.best import BestReport, BestRow, BestScore
from pahi_rt.bench.reports.report import Machine, Ratio, Spread
from pahi_rt.bundle import open_bundle
from pahi_rt.errors import BundleError

ONE = Way("gaussian", 1)


def test_each_group_of_candidates_gives_its_best() -> None:
    own = np.array([[1.0, 2.0, 4.0, 3.0, 0.0, 9.0, 5.0, 5.0]])
    judged = np.array([[10.0, 20.0, 30.0, 40.0, 50.0, 60.0, 70.0, 80.0]])
    assert choose(own, own, 2).tolist() == [(2 + 4 + 9 + 5) / 4]
    assert choose(own, judged, 2).tolist() == [(20 + 30 + 60 + 70) / 4]  # of two equal ones the earlier
    assert choose(own, judged, 8).tolist() == [60.0]


def test_a_choice_gains_by_its_own_judge_and_less_by_another() -> None:
    random = np.random.default_rng(0)
    a = random.standard_normal((200, SEEDS))
    scores = {ONE: {"a": a, "b": 0.5 * a + random.standard_normal((200, SEEDS))}}
    clusters = torch.arange(200)
    row = Row(ONE, 4, "a")
    own, other = (compare(row, judge, scores, ONE, clusters) for judge in ("a", "b"))
    assert own.effect_size == pytest.approx(1.03, abs=0.1)  # the mean of the highest of four Gaussian values
    assert other.effect_size == pytest.approx(1.03 * 0.5 / 1.25**0.5, abs=0.1)
    assert own.effect_size_interval is not None and own.effect_size_interval[0] > 0.9
    assert compare(Row(ONE), "a", scores, ONE, clusters).effect_size == 0


def test_rows_of_the_embedded_bundle() -> None:
    rows = [str(row) for row in list_rows(open_bundle("emoji"))]
    assert rows[:3] == ["1 step", "PAHI, 1 step", "2 steps"]
    assert "1 step, best of 8 by emoji-b" in rows and rows[-1] == "PAHI, 1 step, best of 4 by emoji-b"
    assert len(rows) == len(set(rows)) == 3 + 6 + 2


def test_a_bundle_without_scorers_is_refused(contract: Path) -> None:
    with pytest.raises(BundleError, match="has no scorer"):
        measure(str(contract), "emoji", 2, 2, force=True)


def report() -> BestReport:
    spread, ratio = Spread(median=20.0, p10=19.0, p90=21.0, n=3), Ratio(2.0, 1.9, 2.1)
    plain = BestScore(0.1, 0.0, (0.0, 0.0))
    first = BestRow("1 step", "gaussian", 1, 1, None, spread, Ratio(1, 1, 1), {"a": plain, "b": plain})
    best = BestScore(0.2, 0.9, (0.8, 1.0))
    second = replace(first, row="1 step, best of 2 by a", candidates=2, chooser="a", time_over_one_step=ratio)
    machine = Machine(cpu="C", cores=2, load_average_1min=0.0, system="S", python="3", onnxruntime="1", commit=None)
    rows = (first, replace(second, scores={"a": best, "b": replace(best, effect_size_interval=None)}))
    return BestReport(
        command="pahi-rt bench best",
        machine=machine,
        bundle="emoji",
        recipe="emoji",
        prompts=10,
        seeds=8,
        judges={"a": "cosine", "b": "sd"},
        rows=rows,
    )


def test_it_is_told_as_text_markdown_and_plot(tmp_path: Path) -> None:
    made = BestReport.from_dict(report().to_dict())
    assert made == report()
    assert "+0.90" in "\n".join(text.best(made))
    assert "0.200; +0.90 (+0.80 to +1.00) | 0.200; +0.90 |" in markdown.best(made)
    pytest.importorskip("matplotlib")
    best_plot.draw(made, tmp_path / "best.png", {})
    assert (tmp_path / "best.png").stat().st_size > 5000


@pytest.mark.slow
def test_the_embedded_bundle(tmp_path: Path) -> None:
    made = measure("emoji", "emoji", 2, 2, force=True)
    assert len(made.rows) == 11 and set(made.judges) == {"emoji-a", "emoji-b"}
