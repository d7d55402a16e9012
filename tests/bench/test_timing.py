"""Turns, spreads and ratios."""

from __future__ import annotations

import time

import pytest

from pahi_rt.bench.timing import ratio, spread, take_turns


def test_contenders_take_turns_in_going_first() -> None:
    calls: list[tuple[str, int]] = []
    taken = take_turns([lambda n: calls.append(("a", n)), lambda n: calls.append(("b", n))], 3, warm_up=1)
    assert [len(values) for values in taken] == [3, 3]
    assert [name for name, _ in calls] == ["a", "b", "b", "a", "a", "b", "b", "a"]
    assert [number for _, number in calls] == [-1, -1, 0, 0, 1, 1, 2, 2]


def test_times_are_in_milliseconds_and_untimed_calls_do_not_count() -> None:
    calls: list[int] = []
    (taken,) = take_turns([lambda n: (calls.append(n), time.sleep(0.01))], 3, warm_up=0, untimed=2)
    assert calls == [0, 0, 0, 1, 1, 1, 2, 2, 2]
    assert all(10 <= value < 25 for value in taken)


def test_spread() -> None:
    assert spread([5, 1, 2, 3, 4]).to_dict() == {"median": 3, "p10": 1, "p90": 5, "p99": 5, "n": 5}
    assert spread(range(1000)).to_dict() == {"median": 499.5, "p10": 100, "p90": 899, "p99": 989, "n": 1000}


def test_ratios_are_taken_pair_by_pair() -> None:
    assert ratio([2, 30, 8], [1, 10, 8]).median == 2


def test_an_interval_is_as_wide_as_the_ratios_differ() -> None:
    assert ratio([2.0] * 20, [1.0] * 20).to_dict() == {"median": 2, "low": 2, "high": 2}
    mixed = ratio([float(value) for value in range(90, 111)], [100.0] * 21).to_dict()
    assert mixed["median"] == pytest.approx(1)
    assert 0.93 < mixed["low"] < 1 < mixed["high"] < 1.07
