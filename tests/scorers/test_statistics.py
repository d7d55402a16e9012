"""Win rates, effect size and intervals, against numbers worked out by hand."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from pahi_rt.comparison import MARGIN
from pahi_rt.scorers import statistics
from pahi_rt.scorers.statistics import (
    bootstrap_interval,
    compare,
    independent_wins,
    mean_of_first,
    ratio,
    standardised,
    wins,
)


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_a_tie_counts_half() -> None:
    s, s_prime = torch.tensor([0.0, 0.0, 0.0]), torch.tensor([-1.0, 0.0, 1.0])
    assert wins(s, s_prime).tolist() == [0, 0.5, 1]


def test_a_difference_up_to_the_margin_is_a_tie() -> None:
    s_prime = torch.tensor([-3.0, -2.0, -1.0, 0.0, 1.0, 2.0, 3.0])
    assert wins(torch.zeros(7), s_prime, margin=2.0).tolist() == [0, 0.5, 0.5, 0.5, 0.5, 0.5, 1]


def test_independent_wins_leave_out_the_pairs_of_one_noise() -> None:
    s = torch.tensor([[1.0], [2.0], [3.0]])
    # 2.5 wins against 2 and loses to 3, 1 ties with 1 and loses to 3, 9 wins against 1 and 2.
    assert independent_wins(s, torch.tensor([[2.5], [1.0], [9.0]])).tolist() == [[0.5], [0.25], [1.0]]


def test_comparison_by_hand() -> None:
    s = torch.tensor([[0.0, 10.0], [2.0, 14.0]])  # variances 2 and 8, so sd = sqrt(5)
    s_prime = torch.tensor([[1.0, 10.5], [2.0, 13.0]])  # gains 1, 0.5 / 0, -1
    found = compare(s, s_prime)
    assert found.seed_std == pytest.approx(math.sqrt(5))
    assert found.same_noise_win_rate_percent == 100 * (1 + 1 + 0.5 + 0) / 4
    assert found.same_noise_win_rate_std_percent == pytest.approx(100 * 0.75 / math.sqrt(2))  # seeds: 100 % and 25 %
    # The margin is 0.3 sqrt(5) = 0.67.
    assert found.margin_win_rate_percent == 100 * (1 + 0.5 + 0.5 + 0) / 4
    # 1 and 2 against 2 and 0; 10.5 and 13 against 14 and 10.
    assert found.independent_win_rate_percent == 100 * (0 + 1 + 0 + 1) / 4
    assert found.independent_win_rate_std_percent == pytest.approx(100 * 1 / math.sqrt(2))  # seeds: 0 % and 100 %
    # The first prompt's mean is 1/2, and so is the second's: no resample differs.
    assert found.independent_win_rate_interval_percent == (50.0, 50.0)
    assert found.effect_size == pytest.approx(0.125 / math.sqrt(5))
    assert (found.mean_score, found.gaussian_mean_score) == (6.625, 6.5)


def test_the_margin_is_in_standard_deviations_of_a_prompts_seeds() -> None:
    s = draw(5, 40)
    gain = MARGIN * float(s.var(0).mean().sqrt())
    for factor, expected in ((0.99, 50), (1.01, 100)):
        found = compare(s, s + factor * gain)
        assert found.same_noise_win_rate_percent == 100
        assert found.margin_win_rate_percent == expected


def test_units_do_not_change_rates_or_the_effect() -> None:
    s, s_prime = draw(4, 20), draw(4, 20, seed=1) + 0.5
    one, other = compare(s, s_prime), compare(7 + 0.01 * s, 7 + 0.01 * s_prime)
    assert other.independent_win_rate_percent == one.independent_win_rate_percent
    assert other.same_noise_win_rate_percent == one.same_noise_win_rate_percent
    assert other.margin_win_rate_percent == one.margin_win_rate_percent
    assert other.effect_size == pytest.approx(one.effect_size)
    assert other.effect_size_interval == pytest.approx(one.effect_size_interval)


def test_a_hairs_breadth_wins_the_count_of_the_same_noise_alone() -> None:
    s = draw(5, 100)
    found = compare(s, s + 1e-3)
    assert found.same_noise_win_rate_percent == 100
    assert found.same_noise_win_rate_interval_percent == (100.0, 100.0)
    assert found.margin_win_rate_percent == 50
    assert found.effect_size == pytest.approx(1e-3, rel=0.1)
    assert found.independent_win_rate_percent == pytest.approx(50, abs=0.5)


def test_scores_are_compared_in_double() -> None:
    s = torch.tensor([[0.2120, 0.2120], [0.2130, 0.2130]])
    assert compare(s, torch.nextafter(s, torch.tensor(1.0))).same_noise_win_rate_percent == 100


def test_one_prompt_has_no_interval() -> None:
    found = compare(torch.tensor([[0.0], [1.0]]), torch.tensor([[1.0], [2.0]]))
    assert found.same_noise_win_rate_percent == 100
    assert found.effect_size == pytest.approx(math.sqrt(2))
    assert found.same_noise_win_rate_interval_percent is None
    assert found.independent_win_rate_interval_percent is None
    assert found.effect_size_interval is None


def test_scores_that_never_vary_have_no_effect_size() -> None:
    found = compare(torch.full((3, 4), 0.1), torch.full((3, 4), 0.2))
    assert (found.effect_size, found.effect_size_interval, found.seed_std) == (None, None, 0)
    assert found.independent_win_rate_percent == 100
    assert found.same_noise_win_rate_percent == found.margin_win_rate_percent == 100


def test_the_interval_of_independent_wins_is_theirs() -> None:
    s, s_prime = draw(5, 200), draw(5, 200, seed=1) + 0.4
    found = compare(s, s_prime)
    assert found.independent_win_rate_interval_percent is not None
    low, high = found.independent_win_rate_interval_percent
    assert low < found.independent_win_rate_percent < high
    half = 1.96 * 100 * float(independent_wins(s, s_prime).mean(0).std()) / math.sqrt(200)
    assert (high - low) / 2 == pytest.approx(half, rel=0.1)


def test_the_interval_is_the_spread_of_a_mean() -> None:
    values = draw(400, 1)
    low, high = bootstrap_interval(values, mean_of_first) or (0, 0)
    half = 1.96 * float(values.std()) / 20
    assert (low + high) / 2 == pytest.approx(float(values.mean()), abs=0.1 * half)
    assert (high - low) / 2 == pytest.approx(half, rel=0.1)


def test_the_interval_repeats_and_follows_its_seed() -> None:
    values = draw(20, 2).abs()
    assert bootstrap_interval(values, ratio) == bootstrap_interval(values, ratio)
    assert bootstrap_interval(values, ratio) != bootstrap_interval(values, ratio, seed=1)


@pytest.mark.parametrize(("statistic", "truth"), [(mean_of_first, 0.7), (standardised, 0.7 / math.sqrt(2))])
def test_the_interval_holds_the_truth_about_as_often_as_it_says(
    statistic: object, truth: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(statistics, "RESAMPLES", 400)
    first = (draw(200, 60) + 0.7)[..., None]
    second = 2 * draw(200, 60, 4, seed=1).square().mean(-1, keepdim=True)
    intervals = [bootstrap_interval(values, statistic) for values in torch.cat([first, second], -1)]  # type: ignore[arg-type]
    held = sum(low < truth < high for low, high in filter(None, intervals)) / len(intervals)
    assert 0.89 <= held <= 0.99


def test_ten_times_the_prompts_make_the_interval_narrower() -> None:
    few, many = (bootstrap_interval(draw(count, 1), mean_of_first) or (0, 0) for count in (40, 400))
    assert (few[1] - few[0]) / (many[1] - many[0]) == pytest.approx(math.sqrt(10), rel=0.25)


def test_a_ratio_to_nothing_has_no_interval() -> None:
    assert bootstrap_interval(torch.tensor([[1.0, 0.0], [2.0, 0.0]]), ratio) is None


def test_copies_of_a_prompt_are_no_evidence() -> None:
    """Eight prompts that mean the same eight times over: as wide as one of each, not as eight times as many."""
    values = draw(40, 1)
    copies, clusters = values.repeat_interleave(8, 0), torch.arange(40).repeat_interleave(8)
    assert bootstrap_interval(copies, mean_of_first, clusters) == pytest.approx(
        bootstrap_interval(values, mean_of_first)
    )
    low, high = bootstrap_interval(copies, mean_of_first) or (0, 0)
    wide_low, wide_high = bootstrap_interval(values, mean_of_first) or (0, 0)
    assert (wide_high - wide_low) / (high - low) == pytest.approx(math.sqrt(8), rel=0.1)


def test_clusters_weigh_by_their_size() -> None:
    values, clusters = torch.tensor([[0.0], [0.0], [0.0], [1.0]]).double(), torch.tensor([7, 7, 7, 2])
    # Two clusters drawn twice: a mean of 0, 1/4 or 1.
    assert bootstrap_interval(values, mean_of_first, clusters) == (0, 1)
    assert bootstrap_interval(values, lambda means: (means[..., 0] == 0.25).double(), clusters) == (0, 1)
    assert bootstrap_interval(values, mean_of_first, torch.zeros(4)) is None
