from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch

from pahi_rt.models.priors import HI
from pahi_rt.train.frozen import Models
from pahi_rt.train.processes import Processes
from pahi_rt.train.validation import PICTURES, Validation, judge

PROMPTS = tuple(f"prompt {number}" for number in range(10))

MakeValidation = Callable[..., Validation]


@pytest.fixture
def validation(toy_models: Models, one_thread: None) -> MakeValidation:
    def make(seed: int = 0, batch: int = 4) -> Validation:
        return Validation(toy_models, PROMPTS, ("redness", "greenness"), seed, batch, Processes())

    return make


@pytest.fixture
def redder() -> HI:
    prior = HI((3, 4, 4))
    with torch.no_grad():
        prior.mu.view(3, 16)[0] += 2
    return prior


def test_the_verdict_by_hand() -> None:
    s = torch.tensor([[1.0, 3.0], [2.0, 2.0]])
    verdict = judge(s, torch.tensor([2.0, 4.0]), scale=2.0)
    # Of the same noise, one tie and one win; against the other noise, -1 and -1, times 2.
    assert verdict.same_noise_win_rate_percent == 75
    assert verdict.independent_win_rate_percent == 100
    assert verdict.loss == pytest.approx(math.log1p(math.exp(-2)))
    assert verdict.effect_size == pytest.approx(1 / math.sqrt(0.5))
    assert (verdict.mean_score, verdict.gaussian_mean_score) == (3, 2)


def test_scores_that_do_not_vary_have_no_effect_size() -> None:
    assert judge(torch.ones(2, 3), torch.ones(3), 1.0).effect_size is None


def test_the_gaussian_against_itself(validation: MakeValidation) -> None:
    evaluation = validation().evaluate(HI((3, 4, 4)))
    assert evaluation.kl_nats == 0
    for verdict in evaluation.scorers.values():
        assert (verdict.same_noise_win_rate_percent, verdict.effect_size) == (50, 0)
        assert verdict.independent_win_rate_percent not in (0, 50, 100)


def test_a_redder_prior(validation: MakeValidation, redder: HI) -> None:
    evaluation = validation().evaluate(redder)
    red, green = evaluation.scorers["redness"], evaluation.scorers["greenness"]
    assert (red.same_noise_win_rate_percent, green.same_noise_win_rate_percent) == (100, 0)
    assert red.independent_win_rate_percent > 50 > green.independent_win_rate_percent
    assert red.loss < 0.3 < 0.7 < green.loss
    assert evaluation.loss == pytest.approx((red.loss + green.loss) / 2)
    assert evaluation.kl_nats == pytest.approx(16 * 4 / 2)


def test_it_measures_the_same_again_and_in_any_batches(validation: MakeValidation, redder: HI) -> None:
    first = validation()
    assert first.evaluate(redder) == first.evaluate(redder) == validation().evaluate(redder)
    assert validation(batch=3).evaluate(redder).loss == pytest.approx(first.evaluate(redder).loss, rel=1e-5)
    assert validation(seed=1).evaluate(redder).loss != first.evaluate(redder).loss


def test_pictures_are_of_the_same_noise(validation: MakeValidation, redder: HI) -> None:
    made = validation()
    pairs = made.draw_pictures(redder)
    assert pairs.shape == (PICTURES, 2, 3, 8, 8)
    left, right = pairs.unbind(1)
    assert torch.equal(left[:, 1:], right[:, 1:])
    assert (right[:, 0] >= left[:, 0]).all()
    assert torch.equal(made.draw_pictures(HI((3, 4, 4)))[:, 1], left)


def test_pictures_are_those_that_were_scored(validation: MakeValidation, redder: HI, toy_models: Models) -> None:
    made = validation()
    gaussian = made.draw_pictures(redder)[:, 0]
    scores = toy_models.score("redness", gaussian, PROMPTS[:PICTURES])
    assert torch.allclose(scores, made.gaussian[0, 1, :PICTURES], atol=1e-6)
