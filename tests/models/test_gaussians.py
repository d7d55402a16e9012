"""Samples and divergences of learned Gaussians, against closed forms; the cosine basis of a smooth one."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.distributions import Normal
from torch.distributions import kl_divergence as reference_kl

from pahi_rt.models.gaussians import Gaussian, cosine_basis, kl_divergence, sample_noise

SHAPE = (4, 8, 6)


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@pytest.fixture
def gaussian() -> Gaussian:
    return Gaussian(draw(3, *SHAPE, seed=1), draw(3, *SHAPE, seed=2))


def test_kl_is_that_of_a_normal_with_std_sigma_squared(gaussian: Gaussian) -> None:
    wide = Gaussian(gaussian.mu.double(), gaussian.sigma.double())
    expected = reference_kl(Normal(wide.mu, wide.sigma**2), Normal(0.0, 1.0)).sum((1, 2, 3))
    assert torch.allclose(kl_divergence(wide), expected, rtol=1e-12)
    assert torch.allclose(kl_divergence(gaussian), expected.float(), rtol=1e-5)


def test_kl_of_the_standard_gaussian_is_zero_and_its_least(gaussian: Gaussian) -> None:
    mu, sigma = torch.zeros(2, *SHAPE), torch.ones(2, *SHAPE)
    assert torch.equal(kl_divergence(Gaussian(mu, sigma)), torch.zeros(2))
    assert torch.equal(kl_divergence(Gaussian(mu, -sigma)), torch.zeros(2))
    assert (kl_divergence(gaussian) > 0).all()


def test_kl_and_its_gradient_stay_finite_at_sigma_zero() -> None:
    sigma = torch.zeros(1, *SHAPE).requires_grad_()
    kl = kl_divergence(Gaussian(torch.zeros(1, *SHAPE), sigma))
    kl.sum().backward()
    assert kl.isfinite().all()
    assert sigma.grad is not None
    assert sigma.grad.isfinite().all()


def test_gradients_of_the_kl_lead_to_the_standard_gaussian() -> None:
    mu = torch.tensor([0.5, -0.5, 0.0]).reshape(1, 3, 1, 1).requires_grad_()
    sigma = torch.tensor([1.2, 0.8, -0.8]).reshape(1, 3, 1, 1).requires_grad_()
    kl_divergence(Gaussian(mu, sigma)).sum().backward()
    assert mu.grad is not None
    assert sigma.grad is not None
    assert mu.grad.flatten().sign().tolist() == [1, -1, 0]
    assert sigma.grad.flatten().sign().tolist() == [1, -1, 1]


def test_samples_have_mean_mu_and_std_sigma_squared() -> None:
    mu, sigma = torch.tensor([[[[0.5, -2.0]]]]), torch.tensor([[[[1.3, -0.5]]]])
    eps = draw(200_000, 1, 1, 2)
    noise = sample_noise(Gaussian(mu, sigma), eps)
    assert torch.allclose(noise.mean((0, 1, 2)), torch.tensor([0.5, -2.0]), atol=0.02)
    assert torch.allclose(noise.std((0, 1, 2)), torch.tensor([1.69, 0.25]), atol=0.02)
    half = sample_noise(Gaussian(mu, sigma), eps, 0.5)
    assert torch.allclose(half.mean((0, 1, 2)), torch.tensor([0.25, -1.0]), atol=0.02)
    assert torch.allclose(half.std((0, 1, 2)), torch.tensor([1.345, 0.625]), atol=0.02)


def test_full_strength_is_the_papers_form(gaussian: Gaussian) -> None:
    eps = draw(3, *SHAPE)
    expected = eps * gaussian.sigma**2 + gaussian.mu
    assert torch.allclose(sample_noise(gaussian, eps), expected, atol=1e-5)
    assert torch.allclose(sample_noise(gaussian, eps, torch.ones(3)), expected, atol=1e-5)


def test_no_strength_is_the_noise_itself(gaussian: Gaussian) -> None:
    eps = draw(3, *SHAPE)
    assert torch.equal(sample_noise(gaussian, eps, 0.0), eps)
    assert torch.equal(sample_noise(gaussian, eps, torch.zeros(3)), eps)


def test_each_prompt_has_its_own_strength(gaussian: Gaussian) -> None:
    eps, strengths = draw(3, *SHAPE), [0.0, 0.3, 1.0]
    mixed = sample_noise(gaussian, eps, torch.tensor(strengths))
    for row, strength in enumerate(strengths):
        assert torch.allclose(mixed[row], sample_noise(gaussian, eps, strength)[row], atol=1e-6)


@pytest.mark.parametrize("size", [1, 7, 64])
def test_cosine_functions_are_orthogonal_with_rms_one(size: int) -> None:
    basis = cosine_basis(size, size)
    assert torch.allclose(basis.T @ basis / size, torch.eye(size), atol=1e-5)
    frequency = (basis.diff(dim=0).sign().diff(dim=0) != 0).sum(0)  # turning points grow with the frequency
    assert torch.equal(frequency, frequency.sort().values)
