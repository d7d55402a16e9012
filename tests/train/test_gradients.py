"""Estimates of gradients that are known: of a quadratic loss, of a jump, and of a steep switch."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from pahi_rt.models.gaussians import Gaussian
from pahi_rt.train.gradients import GRADIENTS, RATE, Estimate, Judged, Kind, Running, follow

COUNT, SHAPE = 20_000, (1, 2, 2)
MU, STD = torch.tensor([0.5, -0.3, 0.0, 1.0]).view(SHAPE), torch.tensor([1.0, 0.8, 1.3, 1.1]).view(SHAPE)
TARGET = torch.tensor([1.0, 0.0, -1.0, 0.5]).view(SHAPE)
UNCLIPPED = Running(length=math.inf, kept=0.6, loss=0.2)

LossOf = Callable[[Tensor], Tensor]
"""Noise [B, 1, 2, 2] -> losses [B]."""


def quadratic(noise: Tensor) -> Tensor:
    return (noise - TARGET).square().flatten(1).sum(1) / 2


def jump(noise: Tensor) -> Tensor:
    """1 where the first value is below 0."""
    first = noise[:, 0, 0, 0]
    return (first < 0).float() + 0 * first


def switch(noise: Tensor) -> Tensor:
    """The jump, 0.02 wide."""
    return (-noise[:, 0, 0, 0] / 0.005).sigmoid()


def estimate(
    kind: Kind, loss: LossOf, running: Running = UNCLIPPED, pull: float = 1.0, factor: float = 1.0
) -> Estimate:
    """COUNT estimates, each from noise of its own."""

    def judge(noise: Tensor) -> Judged:
        losses = loss(noise)
        return Judged(losses, torch.full((COUNT,), pull), (losses.detach() < 0.5).float())

    gaussian = Gaussian(MU.expand(COUNT, *SHAPE), STD.sqrt().expand(COUNT, *SHAPE))
    eps = torch.randn(COUNT, *SHAPE, generator=torch.Generator().manual_seed(0))
    return GRADIENTS[kind](judge, gaussian, eps, running, factor)


def assert_unbiased(found: Tensor, truth: Tensor) -> None:
    """The mean is the truth, up to four of its standard errors."""
    error = found.std(0) / math.sqrt(COUNT)
    assert ((found.mean(0) - truth).abs() <= 4 * error + 1e-6).all(), (found.mean(0), truth, error)


def variance(found: Tensor) -> float:
    return float(found.var(0).sum())


@pytest.mark.parametrize("kind", GRADIENTS)
def test_a_quadratic_loss_has_no_bias(kind: Kind) -> None:
    """E |x - t|^2 / 2 has the slopes mu - t and std."""
    found = estimate(kind, quadratic)
    assert_unbiased(found.mean, MU - TARGET)
    assert_unbiased(found.std, STD)


@pytest.mark.parametrize("kind", ["score-function", "mixed"])
def test_the_score_function_sees_a_jump(kind: Kind) -> None:
    """The chance of x < 0 is Phi(-mu / std): slopes of -phi / std and phi mu / std^2, with phi at mu / std = 0.5."""
    density = math.exp(-(0.5**2) / 2) / math.sqrt(2 * math.pi)
    mean, std = torch.zeros(SHAPE), torch.zeros(SHAPE)
    mean[0, 0, 0], std[0, 0, 0] = -density, density * 0.5
    # Backpropagation sees nothing, so that `mixed` leaves all to the score function.
    found = estimate(kind, jump, Running(length=0.0, kept=0.0, loss=0.3))
    assert_unbiased(found.mean, mean)
    assert_unbiased(found.std, std)


@pytest.mark.parametrize("kind", ["pathwise", "clipped"])
def test_backpropagation_does_not(kind: Kind) -> None:
    found = estimate(kind, jump)
    assert not found.mean.any() and not found.std.any()


def test_a_steep_switch_has_a_slope_that_is_rarely_met() -> None:
    """Both have no bias; backpropagation has a variance that grows with the steepness."""
    path, score = estimate("pathwise", switch), estimate("score-function", switch)
    density = math.exp(-(0.5**2) / 2) / math.sqrt(2 * math.pi)
    for found in (path, score):
        assert_unbiased(found.mean[:, 0, 0, 0], torch.tensor(-density))
    assert variance(path.mean) > 10 * variance(score.mean)
    cut = estimate("clipped", switch, Running(length=1.0))
    assert variance(cut.mean) < variance(score.mean) / 10
    # The price: less than a tenth of the slope is left.
    assert -density / 10 < float(cut.mean[:, 0, 0, 0].mean()) < 0


def test_backpropagation_is_steadier_where_the_loss_is_smooth() -> None:
    """A linear loss has one slope, which the score function still has to find among four values."""
    kinds: tuple[Kind, ...] = ("pathwise", "mixed", "score-function")
    path, both, score = (variance(estimate(kind, lambda noise: noise.sum((1, 2, 3))).mean) for kind in kinds)
    assert path < 1e-9
    assert both == pytest.approx((1 - UNCLIPPED.kept) ** 2 * score, rel=0.01)


def test_opposite_noises_and_the_baseline_take_noise_away() -> None:
    """Without them, (L / std) eps and (L / std) (eps^2 - 1) from independent noises."""
    eps = torch.randn(COUNT, *SHAPE, generator=torch.Generator().manual_seed(0))
    losses = quadratic(MU + STD * eps).view(-1, 1, 1, 1) / STD
    baseline = float(quadratic(MU + STD * eps).mean())
    found = estimate("score-function", quadratic, Running(loss=baseline))
    assert variance(found.mean) < variance(losses * eps) / 2
    assert variance(found.std) < variance(losses * (eps.square() - 1)) / 2
    without = estimate("score-function", quadratic, Running(loss=0.0))
    assert torch.equal(without.mean, found.mean)
    assert variance(found.std) < variance(without.std)


@pytest.mark.parametrize("pull", [1.0, 4.0])
def test_no_samples_score_gradient_is_longer_than_the_median(pull: float) -> None:
    """What is cut is the gradient of the score, whatever the loss makes of it."""
    path, cut = estimate("pathwise", quadratic), estimate("clipped", quadratic, Running(length=1.5), pull)
    lengths = path.mean.flatten(1).norm(dim=1) / pull
    torch.testing.assert_close(cut.lengths, lengths)
    torch.testing.assert_close(cut.mean.flatten(1).norm(dim=1), pull * lengths.clamp_max(1.5))
    short = lengths <= 1.5
    assert 0 < short.sum() < COUNT
    torch.testing.assert_close(cut.mean[short], path.mean[short])
    assert torch.cosine_similarity(cut.mean.flatten(1), path.mean.flatten(1)).min() > 0.999


def test_the_first_step_only_measures() -> None:
    found = estimate("clipped", quadratic, Running())
    assert not found.mean.any() and (found.lengths > 0).all()
    both, score = estimate("mixed", quadratic, Running()), estimate("score-function", quadratic, Running())
    assert torch.equal(both.mean, score.mean) and torch.equal(both.lengths, found.lengths)


@pytest.mark.parametrize("kind", GRADIENTS)
def test_a_factor_for_fp16_changes_nothing(kind: Kind) -> None:
    plain, scaled = (estimate(kind, quadratic, factor=factor) for factor in (1.0, 2.0**16))
    torch.testing.assert_close(plain.mean, scaled.mean)
    assert torch.equal(plain.losses, scaled.losses)
    assert not plain.losses.requires_grad and not plain.mean.requires_grad


def test_an_overflow_stays_one() -> None:
    found = estimate("clipped", lambda noise: (1e30 * noise).flatten(1).sum(1), factor=1e30)
    assert found.mean.isnan().any()
    assert not found.lengths.isfinite().any()


def test_both_pictures_count() -> None:
    one, both = estimate("pathwise", jump), estimate("score-function", jump)
    assert set(one.wins.unique().tolist()) == {0.0, 1.0}
    # The mean is above 0, so one of two opposite values is, too.
    assert set(both.wins.unique().tolist()) == {0.5, 1.0}
    torch.testing.assert_close(both.losses, 1 - both.wins)


def test_running_numbers_begin_with_what_is_seen_and_move_slowly() -> None:
    first = follow(Running(), torch.tensor([1.0, 2.0, 9.0]), 0.7)
    assert first.length == 2.0
    assert first.kept == pytest.approx(5 / 12)
    assert first.loss == pytest.approx(math.log(2) + RATE * (0.7 - math.log(2)))
    second = follow(first, torch.tensor([4.0, 4.0, 4.0]), 0.7)
    assert second.length == pytest.approx(2.2)
    assert second.kept == pytest.approx(5 / 12 + RATE * (2.2 / 4 - 5 / 12))


def test_running_numbers_leave_out_overflows_and_what_is_not_clipped() -> None:
    seen = follow(Running(3.0, 0.5, 0.6), torch.tensor([torch.inf, torch.nan, 3.0]), 0.6)
    assert (seen.length, seen.loss) == (3.0, 0.6)
    assert seen.kept == pytest.approx(0.55)
    for nothing in (torch.zeros(3), torch.full((3,), torch.inf)):
        assert follow(Running(3.0, 0.5, 0.6), nothing, 0.6).length == 3.0
        assert follow(Running(), nothing, 0.6).length is None
