"""What is left of a training, from times that are made up."""

from __future__ import annotations

import pytest

from pahi_rt.cli.pace import Pace, duration, evaluations_after
from pahi_rt.train.recipe import Optimisation

SETTINGS = Optimisation(evaluate_every=20, max_steps=110)


def estimates(pace: Pace, start: int, now: float, end: int) -> list[str]:
    """Steps of 2 s from `start`, the first one slow, and evaluations of 30 s; what is said."""
    said = []
    for number in range(start, end + 1):
        now += 9.0 if number == start else 2.0
        pace.step(now)
        said.append(pace.estimate(number, SETTINGS))
        if number % 20 == 0:
            now += 30.0
            pace.evaluation(now)
    return [estimate for estimate in said if estimate]


def test_a_new_run_knows_what_an_evaluation_takes() -> None:
    """100 steps of 2 s, and evaluations at 20, 40, 60, 80, 100 and 110."""
    pace = Pace()
    pace.stage(100.0)
    pace.evaluation(130.0)
    (said,) = estimates(pace, 1, 130.0, 110)
    assert said == f"about {duration(100 * 2 + 6 * 30)} left at most, at 2 s a step; early stopping may end it before"


def test_a_resumed_run_counts_what_is_left() -> None:
    pace = Pace()
    pace.stage(100.0)
    (said,) = estimates(pace, 62, 100.0, 75)
    assert said.startswith(f"about {duration(39 * 2)} left at most, at 2 s a step, evaluations not counted;")
    assert pace.left(75, SETTINGS) == 35 * 2


def test_an_evaluation_between_the_first_steps_is_counted() -> None:
    pace = Pace()
    pace.stage(100.0)
    (said,) = estimates(pace, 18, 100.0, 30)
    assert said.startswith(f"about {duration(83 * 2 + 5 * 30)} left at most, at 2 s a step;")


def test_nothing_is_said_of_a_run_that_is_nearly_over() -> None:
    assert estimates(Pace(), 101, 100.0, 110) == estimates(Pace(), 105, 100.0, 110) == []


def test_before_the_second_step_nobody_knows() -> None:
    pace = Pace()
    pace.step(1.0)
    assert pace.seconds is pace.left(1, SETTINGS) is None


@pytest.mark.parametrize(("number", "count"), [(0, 6), (19, 6), (20, 5), (99, 2), (100, 1), (110, 0)])
def test_evaluations_that_are_due(number: int, count: int) -> None:
    assert evaluations_after(number, SETTINGS) == count


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.4, "0 s"),
        (59.4, "59 s"),
        (59.9, "1 min"),
        (90, "2 min"),
        (3599, "1 h 00 min"),
        (36_000, "10 h 00 min"),
        (2_000_000, "23 days 3 h"),
    ],
)
def test_durations(seconds: float, text: str) -> None:
    assert duration(seconds) == text
