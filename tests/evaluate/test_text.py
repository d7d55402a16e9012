"""The printed report: its columns, its width, and what it warns of."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from pahi_rt.comparison import Comparison
from pahi_rt.evaluate.report import Group, Ratio, Report, Row, ScorerNote
from pahi_rt.evaluate.text import WIDTH, format_report

SCORE = Comparison(
    independent_win_rate_percent=80.14,
    independent_win_rate_std_percent=0.2,
    independent_win_rate_interval_percent=(72.06, 99.97),
    same_noise_win_rate_percent=94.04,
    same_noise_win_rate_std_percent=0.3,
    same_noise_win_rate_interval_percent=(92.06, 99.97),
    margin_win_rate_percent=91.0,
    effect_size=1.92,
    effect_size_interval=(1.8, 2.1),
    mean_score=0.228,
    gaussian_mean_score=0.212,
    seed_std=0.0083,
)
WIDEST = replace(
    SCORE,
    independent_win_rate_percent=99.9,
    independent_win_rate_std_percent=10.2,
    independent_win_rate_interval_percent=(12.34, 99.99),
    effect_size=-12.34,
    mean_score=-0.12345,
)


def row(name: str, score: Comparison = SCORE, **changes: Any) -> Row:
    values: dict[str, Any] = {"pictures_drawn": 1, "kl_nats": 12.345, "diversity_ratio": Ratio(0.871, None)}
    return Row(name=name, sharpness_ratio=Ratio(0.96, (0.9, 1.0)), scores={"a": score, "b": score}, **values | changes)


def report(*rows: Row, prompts: int = 500, meanings: int | None = None) -> Report:
    groups = (Group("test", prompts, meanings or prompts, 32, (row("Gaussian", kl_nats=0.0), *rows)),)
    notes = {"a": ScorerNote("cosine", True), "b": ScorerNote("standard deviations", False)}
    return Report("runs/pahi", 1, 5, 16, "random filters at four scales", "float32", "a", notes, groups)


def line(text: str, beginning: str) -> list[str]:
    (found,) = {line for line in text.splitlines() if line.startswith(beginning)}
    return found.removeprefix(beginning).split()


def test_a_row_has_every_number() -> None:
    text = format_report(report(row("PAHI")))
    expected = ["80.1", "(0.2)", "72.1-99.9", "94.0", "91.0", "1.92", "0.2280", "0.87", "0.96", "12.3"]
    assert line(text, "PAHI") == expected
    assert line(text, "Gaussian ") == ["-"] * 5 + ["0.2280", "0.87", "0.96", "0"]


def test_every_scorer_has_a_table_with_its_unit() -> None:
    text = format_report(report(row("PAHI")))
    assert "a: trained the prior; unit: cosine; sd between seeds of one prompt: 0.0083" in text
    assert "b: trained no prior here; unit: standard deviations" in text
    assert text.count("sharp-") == 2
    assert text.startswith("runs/pahi: test, 500 x 5 seeds, 1 step\n")


def test_what_is_not_known_is_a_dash() -> None:
    unknown = replace(SCORE, independent_win_rate_interval_percent=None, effect_size=None)
    text = format_report(report(row("PAHI", unknown, kl_nats=None, diversity_ratio=None)))
    assert line(text, "PAHI") == ["80.1", "(0.2)", "-", "94.0", "91.0", "-", "0.2280", "-", "0.96", "-"]


def test_only_a_hundred_is_a_hundred() -> None:
    almost, whole = (replace(SCORE, independent_win_rate_percent=value) for value in (99.99, 100.0))
    text = format_report(report(row("almost", almost), row("whole", whole)))
    assert line(text, "almost")[0] == "99.9"
    assert line(text, "whole")[0] == "100"


@pytest.mark.parametrize("name", ["low x1.5, rest x0.7", "a prior with quite a long name of its own"])
def test_fits_a_hundred_columns(name: str) -> None:
    text = format_report(report(row(name, WIDEST, kl_nats=1668.2), row("best", pictures_drawn=4)))
    assert max(map(len, text.splitlines())) <= WIDTH


def test_columns_are_aligned() -> None:
    text = format_report(report(row("PAHI"), row("low x1.5, rest x0.7", WIDEST)))
    rows = [line for line in text.splitlines() if line.startswith(("PAHI", "low x1.5", "Gaussian "))]
    assert len({len(line) for line in rows}) == 1


def test_cautions() -> None:
    many = report(row("PAHI"))
    assert "Caution" not in format_report(many)
    assert "Caution: with fewer than 30 prompts" in format_report(report(row("PAHI"), prompts=29))
    trained = {label: replace(note, trained=True) for label, note in many.scorers.items()}
    assert "none is independent" in format_report(replace(many, scorers=trained))
    assert "rounded to bytes" in format_report(replace(many, pictures="uint8"))
    best = " ".join(format_report(report(row("best", pictures_drawn=4))).split())
    assert "it costs 4 times as much, and by construction wins 80 % under a" in best


def test_what_the_numbers_are_not_stands_below() -> None:
    text = " ".join(format_report(report(row("PAHI"))).split())
    assert "from other noise" in text.partition("same noise: ")[0]
    assert "over the meanings of prompts (concepts), not over prompts" in text
    assert "other generators, scorers or groups of prompts have another sd" in text
    assert "each weighs by its number of prompts" in text
    assert "best of" not in text


def test_prompts_of_the_same_meaning_are_told() -> None:
    text = format_report(report(row("PAHI"), prompts=160, meanings=60))
    assert "test, 160 (of 60 meanings) x 5 seeds" in text
    assert "Caution" not in text
    assert "fewer than 30 prompts of different meaning" in format_report(report(row("PAHI"), prompts=160, meanings=20))
