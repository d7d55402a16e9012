"""Diagonal Gaussians over the noise: parameters, samples, and the KL divergence to N(0, I).

The paper's x_T = eps * sigma^2 + mu (eqs. 6 and 8) scales by sigma^2 and not by sigma. So the standard deviation is
sigma^2 everywhere here, also in the KL divergence, and the sign of sigma has no effect.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from pahi_rt.errors import ModelError

LatentShape = tuple[int, int, int]
"""Channels, height, width."""


@dataclass(frozen=True)
class Gaussian:
    """Diagonal Gaussians over the noise x_T, one for each prompt of a batch (eq. 3)."""

    mu: Tensor
    """[B, C, h, w]"""
    sigma: Tensor
    """[B, C, h, w]. The standard deviation is its square."""

    @property
    def std(self) -> Tensor:
        """Standard deviation [B, C, h, w]."""
        return self.sigma.square()


def sample_noise(gaussian: Gaussian, eps: Tensor, strength: float | Tensor = 1.0) -> Tensor:
    """Standard Gaussian noise [B, C, h, w] -> x_T of the same shape: eps * std + mean.

    std = 1 + w (sigma^2 - 1) and mean = w mu, where w is `strength`, one number or one per prompt [B]. At 1 this is the
    paper's eqs. (6) and (8); at 0 it is `eps`, bit for bit.
    """
    weight = strength.reshape(-1, 1, 1, 1) if isinstance(strength, Tensor) else strength
    return eps * (1 + weight * (gaussian.std - 1)) + weight * gaussian.mu


def kl_divergence(gaussian: Gaussian) -> Tensor:
    """KL(N(mu, std^2), N(0, I)) [B] in nats, in closed form, with std = sigma^2."""
    std = gaussian.std
    # If an optimiser moves a sigma to 0, the sum would be infinite and its gradient NaN.
    log_std = std.clamp_min(torch.finfo(std.dtype).tiny).log()
    return ((gaussian.mu.square() + std.square() - 1) / 2 - log_std).flatten(1).sum(1)


def cosine_basis(size: int, count: int) -> Tensor:
    """The `count` lowest functions of the discrete cosine transform, as orthogonal columns [size, count].

    Each column has RMS 1, not norm 1. So a coefficient has the scale of a plain mu or sigma, and one learning rate
    suits both.
    """
    angle = torch.outer(torch.arange(size) + 0.5, torch.arange(count)) * (math.pi / size)
    basis = math.sqrt(2) * angle.cos()
    basis[:, 0] = 1
    return basis


class Parametrisation(nn.Module):
    """Turns two vectors into (mu, sigma). HI learns the vectors, PAHI predicts them.

    By default the vectors are mu and sigma themselves, C * h * w numbers each. Two options go beyond the paper:
    - `low_frequency` = k: the vectors are the k x k lowest cosine coefficients of each channel, of mu and of sigma - 1.
      There are fewer numbers to learn; in a trial most of the gain of mu was at low frequencies.
    - `sigma_bound` = b < 1: sigma = 1 + b tanh(.). Sigma stays bounded and never reaches 0, where the KL is infinite.
    Both options parametrise sigma around 1, so an MLP with random weights starts near the standard Gaussian. The
    paper's sigma starts around 0, and eq. (10) hardly moves a value across 0, where the KL has its logarithm.
    """

    def __init__(self, latent_shape: LatentShape, sigma_bound: float | None, low_frequency: int | None) -> None:
        super().__init__()
        if len(latent_shape) != 3 or any(size < 1 for size in latent_shape):
            fix = "use three positive sizes: channels, height, width"
            raise ModelError(f"no noise has the shape {latent_shape}", fix=fix)
        if sigma_bound is not None and not 0 < sigma_bound < 1:
            raise ModelError(f"a sigma_bound of {sigma_bound} is out of range", fix="use more than 0 and less than 1")
        channels, height, width = self.latent_shape = latent_shape
        most = min(height, width)
        if low_frequency is not None and not 1 <= low_frequency <= most:
            what = f"low_frequency = {low_frequency} does not fit latents of {most} rows or columns"
            raise ModelError(what, fix=f"use 1 to {most}, or leave it out")
        self.sigma_bound, self.low_frequency = sigma_bound, low_frequency
        self.grid = (channels, low_frequency or height, low_frequency or width)
        if low_frequency is not None:
            # Not saved in checkpoints: they follow from the settings.
            self.register_buffer("rows", cosine_basis(height, low_frequency), persistent=False)
            self.register_buffer("columns", cosine_basis(width, low_frequency).T.contiguous(), persistent=False)

    @property
    def size(self) -> int:
        """Length of the vector for mu, and of that for sigma."""
        return math.prod(self.grid)

    def standard(self) -> tuple[Tensor, Tensor]:
        """The two vectors [size], for mu and sigma, that give exactly the standard Gaussian."""
        zeros = torch.zeros(self.size)
        return zeros, zeros + 1 if self._is_plain else zeros.clone()

    def forward(self, mu: Tensor, sigma: Tensor) -> Gaussian:
        """Vectors [B, size] for mu and for sigma -> the Gaussians over [B, C, h, w]."""
        mean, spread = self._expand(mu), self._expand(sigma)
        if self.sigma_bound is not None:
            spread = self.sigma_bound * spread.tanh()
        return Gaussian(mean, spread if self._is_plain else 1 + spread)

    @property
    def _is_plain(self) -> bool:
        """Whether the second vector is sigma itself, and not sigma - 1."""
        return self.sigma_bound is None and self.low_frequency is None

    def _expand(self, numbers: Tensor) -> Tensor:
        field = numbers.unflatten(1, self.grid)
        return field if self.low_frequency is None else self.rows @ field @ self.columns
