"""Eq. (4) against its own definition, and each option beyond the paper."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from pahi_rt.errors import PahiError
from pahi_rt.models.gaussians import Gaussian, kl_divergence
from pahi_rt.train.preference import (
    Loss,
    Preference,
    Scores,
    check_scores,
    draw_pair,
    objective,
    preference_loss,
    sample_losses,
)

S = torch.tensor([0.21, 0.22, 0.20])
S_PRIME = torch.tensor([0.23, 0.22, 0.19])
SHAPE = (3, 2, 4, 4)


def seeded() -> torch.Generator:
    return torch.Generator().manual_seed(0)


@pytest.fixture
def gaussian() -> Gaussian:
    return Gaussian(torch.full(SHAPE, 0.1), torch.full(SHAPE, 1.1))


def total(scores: dict[str, Scores], gaussian: Gaussian, settings: Preference) -> Loss:
    return objective(sample_losses(scores, settings)[0], gaussian, settings)


def paper_loss(s: Tensor, s_prime: Tensor) -> Tensor:
    """Eq. (4) as written, for every prompt."""
    f, f_prime = s.exp() / (s.exp() + s_prime.exp()), s_prime.exp() / (s.exp() + s_prime.exp())
    return -(0 * f.log() + 1 * f_prime.log())


def test_is_the_papers_loss_averaged_over_prompts() -> None:
    assert torch.allclose(preference_loss(S, S_PRIME, 1), paper_loss(S, S_PRIME).mean())
    assert torch.allclose(
        preference_loss(S, S_PRIME, 100), paper_loss(100 * S.double(), 100 * S_PRIME.double()).mean().float()
    )


def test_no_preference_costs_ln_2_and_far_scores_do_not_overflow() -> None:
    assert preference_loss(S, S, 100).item() == pytest.approx(math.log(2))
    assert preference_loss(torch.tensor([0.0]), torch.tensor([-1e4]), 100).item() == pytest.approx(1e6)
    assert preference_loss(torch.tensor([-1e4]), torch.tensor([0.0]), 100).item() == 0


def test_gradient_raises_the_priors_score_most_where_it_loses() -> None:
    s, s_prime = S.clone().requires_grad_(), S_PRIME.clone().requires_grad_()
    preference_loss(s, s_prime, 100).backward()
    assert s.grad is not None
    assert s_prime.grad is not None
    assert (s_prime.grad < 0).all()
    assert torch.allclose(s.grad, -s_prime.grad)
    assert s_prime.grad[2] < s_prime.grad[1] < s_prime.grad[0]
    assert s_prime.grad[1].item() == pytest.approx(-100 * 0.5 / 3)


def test_half_precision_scores_are_compared_in_float32() -> None:
    half, half_prime = S.half(), S_PRIME.half()
    loss = preference_loss(half, half_prime, 100)
    assert loss.dtype == torch.float32
    assert torch.equal(loss, preference_loss(half.float(), half_prime.float(), 100))


def test_by_default_the_loss_is_the_papers_with_the_scorers_scale(gaussian: Gaussian) -> None:
    loss = total({"a": Scores(S, S_PRIME, 100.0)}, gaussian, Preference({"a": 1.0}))
    assert torch.equal(loss.total, preference_loss(S, S_PRIME, 100))
    assert torch.equal(loss.preference, loss.total)
    assert torch.equal(loss.kl, kl_divergence(gaussian).mean())


def test_the_scale_can_be_overridden(gaussian: Gaussian) -> None:
    loss = total({"a": Scores(S, S_PRIME, 100.0)}, gaussian, Preference({"a": 1.0}, scale=3.0))
    assert torch.equal(loss.total, preference_loss(S, S_PRIME, 3))


def test_kl_weight_pulls_back_to_the_gaussian() -> None:
    mu = torch.full(SHAPE, 0.1).requires_grad_()
    gaussian = Gaussian(mu, torch.ones(SHAPE))
    loss = total({"a": Scores(S, S_PRIME, 100.0)}, gaussian, Preference({"a": 1.0}, kl_weight=0.5))
    assert loss.kl.item() == pytest.approx(32 * 0.1**2 / 2)
    assert loss.total.item() == pytest.approx(loss.preference.item() + 0.5 * loss.kl.item())
    loss.total.backward()
    assert mu.grad is not None
    assert torch.allclose(mu.grad, torch.full(SHAPE, 0.5 * 0.1 / 3))


def test_without_a_kl_weight_an_infinite_kl_does_no_harm() -> None:
    gaussian = Gaussian(torch.full(SHAPE, math.inf), torch.ones(SHAPE))
    assert total({"a": Scores(S, S_PRIME, 1.0)}, gaussian, Preference({"a": 1.0})).total.isfinite()


def test_scorers_are_weighted_relative_to_each_other(gaussian: Gaussian) -> None:
    scores = {"a": Scores(S, S_PRIME, 100.0), "b": Scores(S_PRIME, S, 1.0), "ignored": Scores(S, S, 1.0)}
    loss = total(scores, gaussian, Preference({"a": 3.0, "b": 1.0}))
    expected = (3 * preference_loss(S, S_PRIME, 100) + preference_loss(S_PRIME, S, 1)) / 4
    assert torch.allclose(loss.total, expected)
    assert torch.allclose(total(scores, gaussian, Preference({"a": 6.0, "b": 2.0})).total, expected)


def test_a_gain_under_one_scorer_cannot_pay_for_a_loss_under_another(gaussian: Gaussian) -> None:
    def loss_of(gain: float, loss: float) -> float:
        zero = torch.zeros(3)
        scores = {"a": Scores(zero, zero + gain, 1.0), "b": Scores(zero, zero - loss, 1.0)}
        return total(scores, gaussian, Preference({"a": 1.0, "b": 1.0})).total.item()

    assert loss_of(100, 5) > loss_of(0, 0)


def test_the_slope_of_a_samples_loss_is_autograds() -> None:
    s_prime = S_PRIME.clone().requires_grad_()
    losses, slopes = sample_losses({"a": Scores(S, s_prime, 100.0)}, Preference({"a": 2.0}, scale=30.0))
    losses.sum().backward()
    assert s_prime.grad is not None and torch.allclose(slopes, -s_prime.grad)
    assert torch.allclose(losses.mean(), preference_loss(S, S_PRIME, 30))


def test_all_options_combine(gaussian: Gaussian) -> None:
    settings = Preference({"a": 1.0, "b": 2.0}, kl_weight=0.01, noise="antithetic", scale=7.0)
    scores = {"a": Scores(S, S_PRIME, 100.0), "b": Scores(S_PRIME, S, 1.0)}
    preference = (preference_loss(S, S_PRIME, 7) + 2 * preference_loss(S_PRIME, S, 7)) / 3
    loss = total(scores, gaussian, settings)
    assert torch.allclose(loss.total, preference + 0.01 * kl_divergence(gaussian).mean())


def test_noise_of_a_comparison() -> None:
    fresh, other = draw_pair(SHAPE, "fresh", seeded())
    assert fresh.shape == other.shape == SHAPE
    assert abs((fresh * other).mean()) < 0.3
    assert not torch.equal(fresh, other)
    shared, same = draw_pair(SHAPE, "shared", seeded())
    assert torch.equal(shared, same)
    ahead, opposite = draw_pair(SHAPE, "antithetic", seeded())
    assert torch.equal(ahead, -opposite)
    assert torch.equal(fresh, shared)
    assert torch.equal(fresh, ahead)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"weights": {}}, "no scorers"),
        ({"weights": {"a": 0.0}}, "no scorers"),
        ({"weights": {"a": 1.0, "b": -1.0}}, "no scorers"),
        ({"weights": {"a": math.nan}}, "no scorers"),
        ({"kl_weight": -0.1}, "KL weight of -0.1"),
        ({"kl_weight": math.inf}, "KL weight of inf"),
        ({"noise": "none"}, "no way to draw noise"),
        ({"scale": 0.0}, "scale of 0.0"),
        ({"scale": math.nan}, "scale of nan"),
    ],
)
def test_refuses_settings_out_of_range(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(PahiError, match=message) as caught:
        Preference(**{"weights": {"a": 1.0}} | settings)
    assert caught.value.fix


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_refuses_scores_that_are_no_numbers(gaussian: Gaussian, bad: float) -> None:
    scores = torch.tensor([0.1, bad, 0.3])
    check_scores("a", S)
    with pytest.raises(PahiError, match="the scorer a gives NaN or infinity for 1 of 3 pictures"):
        check_scores("a", scores)
    with pytest.raises(PahiError, match="the scorer a gives NaN"):
        total({"a": Scores(S, scores, 1.0)}, gaussian, Preference({"a": 1.0}))
