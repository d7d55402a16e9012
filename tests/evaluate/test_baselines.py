"""Ways to make noise: what they do to a spectrum, and their KL, against samples and closed forms."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from pahi_rt.evaluate.baselines import (
    Sampler,
    best_of_nats,
    gaussian,
    high_frequency,
    learned,
    low_frequency,
    scaled,
    spread_nats,
)
from pahi_rt.models.gaussians import LatentShape, cosine_basis
from pahi_rt.models.priors import HI

SHAPE = (2, 8, 12)
SIZE = math.prod(SHAPE)


def draw(count: int, seed: int = 0) -> Tensor:
    return torch.randn(count, *SHAPE, generator=torch.Generator().manual_seed(seed))


def spectrum(noise: Tensor) -> Tensor:
    """Orthonormal cosine coefficients, of the same shape."""
    rows, columns = (cosine_basis(size, size) / math.sqrt(size) for size in SHAPE[1:])
    return rows.T @ noise @ columns


POOLED = torch.zeros(3, 5)


def test_the_gaussian_leaves_noise_alone() -> None:
    eps = draw(3)
    assert torch.equal(gaussian().sample(POOLED, eps), eps)
    assert torch.equal(gaussian().kl(POOLED), torch.zeros(3))


def test_scaled_noise() -> None:
    sampler, eps = scaled(SHAPE), draw(3)
    assert sampler.name == "eps x 0.8"
    assert torch.allclose(sampler.sample(POOLED, eps), 0.8 * eps)
    expected = SIZE * ((0.64 - 1) / 2 - math.log(0.8))
    assert torch.allclose(sampler.kl(POOLED), torch.full((3,), expected))


@pytest.mark.parametrize(
    ("make", "name", "band"),
    [
        (low_frequency, "low x1.5, rest x0.7", (..., slice(2), slice(3))),  # the lowest quarter of 8 and of 12
        (high_frequency, "high x1.5, rest x0.7", (..., slice(6, 8), slice(9, 12))),
    ],
)
def test_a_band_of_frequencies_grows_and_the_rest_shrinks(
    make: Callable[[LatentShape], Sampler], name: str, band: tuple[Any, ...]
) -> None:
    sampler, eps = make(SHAPE), draw(3)
    factors = spectrum(sampler.sample(POOLED, eps)) / spectrum(eps)
    assert sampler.name == name
    expected = torch.full(SHAPE, 0.7)
    expected[band] = 1.5
    assert torch.allclose(factors, expected.expand(3, -1, -1, -1), atol=1e-2)


@pytest.mark.parametrize("make", [low_frequency, high_frequency])
def test_kl_of_a_band_is_that_of_its_spectrum(make: Callable[[LatentShape], Sampler]) -> None:
    sampler = make(SHAPE)
    few = 2 * 2 * 3
    expected = few * spread_nats(1.5) + (SIZE - few) * spread_nats(0.7)
    assert torch.allclose(sampler.kl(POOLED), torch.full((3,), expected))
    matrix = sampler.sample(torch.zeros(SIZE, 0), torch.eye(SIZE).unflatten(1, SHAPE)).flatten(1).double()
    covariance = matrix.T @ matrix
    exact = (covariance.trace() - SIZE - covariance.logdet()) / 2
    assert float(exact) == pytest.approx(expected, rel=1e-4)


def test_tiny_latents_keep_one_low_frequency() -> None:
    eps = torch.ones(1, 1, 2, 2)
    assert torch.allclose(low_frequency((1, 2, 2)).sample(POOLED, eps), 1.5 * eps)


def test_a_prior_as_a_sampler() -> None:
    prior, eps = HI(SHAPE), draw(3)
    nn.init.constant_(prior.mu, 0.5)
    sampler = learned("HI", prior)
    assert torch.allclose(sampler.sample(POOLED, eps), eps + 0.5)
    assert torch.allclose(sampler.kl(POOLED), torch.full((3,), SIZE * 0.125))


@pytest.mark.parametrize(("std", "nats"), [(1.0, 0.0), (2.0, 1.5 - math.log(2))])
def test_nats_of_a_spread(std: float, nats: float) -> None:
    assert spread_nats(std) == pytest.approx(nats)


def test_nats_of_the_best_of_some() -> None:
    assert best_of_nats(1) == 0
    # The density of the best of n is n F^(n-1) f, so the KL is the integral of n u^(n-1) ln(n u^(n-1)) over 0..1.
    u = (torch.arange(1_000_00, dtype=torch.float64) + 0.5) / 1_000_00
    density = 4 * u**3
    assert best_of_nats(4) == pytest.approx(float((density * density.log()).mean()), rel=1e-4)
