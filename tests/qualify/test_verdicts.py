"""Verdicts follow from where the interval lies; a yardstick's margins follow from the pictures."""

from __future__ import annotations

import numpy as np
import pytest

from pahi_rt.export.precision import ALL
from pahi_rt.qualify.margins import ONE_LEVEL_DB, Margin, Standard
from pahi_rt.qualify.verdicts import (
    independent_pairs,
    judge,
    judge_against,
    judge_count,
    judge_mean,
    judge_share,
    overall,
    pairs_needed,
)

OTHER = Margin(0.05, "r", is_floor=False)
FLOOR, CEILING = Margin(0.9, "r"), Margin(0.1, "r", is_floor=False)


@pytest.mark.parametrize(
    ("interval", "margin", "verdict"),
    [
        ((0.9, 0.99), FLOOR, "pass"),
        ((0.89, 0.99), FLOOR, "inconclusive"),
        ((0.8, 0.9), FLOOR, "inconclusive"),
        ((0.8, 0.899), FLOOR, "fail"),
        ((0.0, 0.1), CEILING, "pass"),
        ((0.05, 0.11), CEILING, "inconclusive"),
        ((0.101, 0.2), CEILING, "fail"),
        (None, FLOOR, "inconclusive"),
        ((0.0, 1.0), Margin(None, "shown"), None),
    ],
)
def test_intervals(interval: tuple[float, float] | None, margin: Margin, verdict: str | None) -> None:
    assert judge(0.5, interval, margin).verdict == verdict


def test_the_interval_is_over_prompts_and_not_over_pairs() -> None:
    """A hundred pairs of one prompt say nothing about others; those of ten prompts as much as ten means."""
    values = np.repeat(np.linspace(0, 1, 10), 10)
    assert judge_mean(values, [0] * 100, FLOOR).interval is None
    apart = judge_mean(values, list(range(100)), FLOOR).interval
    together = judge_mean(values, [number // 10 for number in range(100)], FLOOR).interval
    assert apart is not None and together is not None
    assert together[1] - together[0] > 2 * (apart[1] - apart[0])


def test_what_differs_between_pictures_cancels_in_pairs() -> None:
    """Pictures spread sixty times as much as the runtime is better than the yardstick, on nearly each of them."""
    rng = np.random.default_rng(0)
    yardstick = rng.normal(0.9, 0.03, 100)
    drawn = yardstick + 0.0005 + rng.normal(0, 0.0005, 100)
    alone = judge_mean(drawn, range(100), Margin(float(yardstick.mean()), "r"))
    better = judge_against(drawn, yardstick, range(100), "r", is_floor=True)
    worse = judge_against(2 * yardstick - drawn, yardstick, range(100), "r", is_floor=True)
    assert [one.verdict for one in (alone, better, worse)] == ["inconclusive", "pass", "fail"]
    assert better.value == drawn.mean() and better.margin == yardstick.mean()
    assert better.interval is not None
    assert yardstick.mean() < better.interval[0] < better.value < better.interval[1]
    ceiling = judge_against(drawn, yardstick, range(100), "r", is_floor=False)
    assert (ceiling.verdict, ceiling.interval) == ("fail", better.interval)
    assert judge_against(drawn, yardstick, [0] * 100, "r", is_floor=True).verdict == "inconclusive"


def test_a_few_pairs_pass_by_chance_no_more_often_than_their_interval_says() -> None:
    """As good as the yardstick on average is a pass in 2.5 % of all cases, also where the yardstick itself varies."""
    rng = np.random.default_rng(0)
    passed = 0
    for _ in range(200):
        yardstick, drawn = rng.normal(0.9, 0.03, (2, 100))
        passed += judge_against(drawn, yardstick, range(100), "r", is_floor=True).verdict == "pass"
    assert passed <= 12


def test_a_share_of_none_is_not_certain() -> None:
    few, many = (judge_share(np.zeros(number, bool), range(number), OTHER) for number in (12, 72))
    assert (few.verdict, many.verdict) == ("inconclusive", "pass")
    advised = pairs_needed([few], 12)
    assert advised is not None and 72 <= advised <= 90


def test_shares_have_the_usual_interval_where_prompts_differ() -> None:
    counted = np.arange(100) < 3
    apart = judge_share(counted, range(100), OTHER)
    assert apart.value == 0.03
    assert apart.interval == pytest.approx((0.00623, 0.08518), abs=1e-4)  # Clopper and Pearson for 3 of 100
    assert judge_share(counted, [7] * 100, OTHER).interval is None
    assert judge_share(~counted[:3], range(3), OTHER).interval == pytest.approx((0.0, 0.7076), abs=1e-4)


def test_pictures_of_one_prompt_that_fail_together_tell_less() -> None:
    """Twenty prompts of five pictures: all of one fail, or one picture of each of five."""
    clusters = [number // 5 for number in range(100)]
    together = np.arange(100) < 5
    spread = np.isin(np.arange(100), [0, 5, 10, 15, 20])
    assert independent_pairs(together, clusters) == pytest.approx(19 * 100 / 99)  # nearly as few as there are prompts
    assert independent_pairs(spread, clusters) == 100
    wide, narrow = (judge_share(counted, clusters, OTHER).interval for counted in (together, spread))
    assert wide is not None and narrow is not None
    assert wide[1] > 1.5 * narrow[1]


def test_one_fault_is_one_too_many() -> None:
    assert [judge_count(n, Margin(0, "r", is_floor=False)).verdict for n in (0, 1)] == ["pass", "fail"]


def test_a_row_is_as_good_as_its_worst_measure() -> None:
    good, open_, bad = (judge(0.5, interval, FLOOR) for interval in ((0.9, 1), (0.8, 1), (0, 0.1)))
    assert [overall(row) for row in ([], [good], [good, open_], [open_, bad, good])] == [
        "pass",
        "pass",
        "inconclusive",
        "fail",
    ]
    assert pairs_needed([good, bad], 10) is None


def test_who_promises_one_level_is_held_to_it() -> None:
    exact = Standard.of("fp32", "fp32", keeps_levels=True)
    assert exact.is_exact and exact.psnr.limit == ONE_LEVEL_DB and exact.levels.limit == 0.999
    for precision, reference, keeps in (("w8", "fp32", True), ("fp32", "fp32", False), ("int8", "int8", True)):
        loose = Standard.of(precision, reference, keeps_levels=keeps)
        assert not loose.is_exact and loose.levels.limit is None
        assert loose.psnr.limit == 30
    assert Standard.of("w16", "fp32", keeps_levels=True).psnr.limit == ALL["w16"].near.psnr_db == 40


def test_the_yardsticks_do_what_they_say() -> None:
    pictures = np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3)).astype(np.uint8)
    moved = Standard.of("fp32", "fp32", keeps_levels=True).alter(pictures).astype(int) - pictures
    assert np.abs(moved).max() == 1 and np.abs(moved).mean() > 0.9
    compressed = Standard.of("int8", "fp32", keeps_levels=True).alter(pictures)
    assert compressed.shape == pictures.shape and not np.array_equal(compressed, pictures)
