"""Diagonal Gaussians over the noise: how a learned prior describes one, samples it, and how far it is from N(0, I).

The paper's x_T = eps * sigma^2 + mu (eqs. 6 and 8) scales by sigma^2 and not by sigma, so the standard deviation
is sigma^2 throughout, the KL divergence included. The sign of sigma means nothing.
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
    """A diagonal Gaussian over the noise x_T, one per prompt of a batch (eq. 3)."""

    mu: Tensor
    """[B, C, h, w]"""
    sigma: Tensor
    """[B, C, h, w]; its square is the standard deviation."""

    @property
    def std(self) -> Tensor:
        """Standard deviation [B, C, h, w]."""
        return self.sigma.square()


def sample_noise(gaussian: Gaussian, eps: Tensor, strength: float | Tensor = 1.0) -> Tensor:
    """Standard Gaussian noise [B, C, h, w] -> x_T of the same shape: eps * std + mean.

    With w = `strength`, one number or one per prompt [B], std = 1 + w (sigma^2 - 1) and mean = w mu: 1 is the paper's
    eq. (6) and (8), and 0 is `eps` itself, bit for bit.
    """
    weight = strength.reshape(-1, 1, 1, 1) if isinstance(strength, Tensor) else strength
    return eps * (1 + weight * (gaussian.std - 1)) + weight * gaussian.mu


def kl_divergence(gaussian: Gaussian) -> Tensor:
    """KL(N(mu, std^2), N(0, I)) [B] in nats, in closed form, with std = sigma^2."""
    std = gaussian.std
    # A sigma that an optimiser steps onto 0 would make the sum infinite and its gradient NaN.
    log_std = std.clamp_min(torch.finfo(std.dtype).tiny).log()
    return ((gaussian.mu.square() + std.square() - 1) / 2 - log_std).flatten(1).sum(1)


def cosine_basis(size: int, count: int) -> Tensor:
    """The `count` lowest functions of the discrete cosine transform as columns [size, count], orthogonal.

    Each has RMS 1, not norm 1, so that a coefficient is worth as much as a plain mu or sigma, and one learning rate
    suits both.
    """
    angle = torch.outer(torch.arange(size) + 0.5, torch.arange(count)) * (math.pi / size)
    basis = math.sqrt(2) * angle.cos()
    basis[:, 0] = 1
    return basis


class Parametrisation(nn.Module):
    """What two vectors of numbers mean as (mu, sigma). HI learns the vectors, PAHI predicts them.

    By default they are mu and sigma themselves, C * h * w of each. Beyond the paper:
    - `low_frequency` = k: they are the k x k lowest cosine coefficients of each channel of mu and of sigma - 1, so
      there are fewer to learn; in a trial most of the gain of mu was at low frequencies.
    - `sigma_bound` = b < 1: sigma = 1 + b tanh(.), which neither grows nor reaches 0, where the KL is infinite.
    Both count sigma from 1, so that an MLP's random weights begin near the standard Gaussian. The paper's sigma begins
    around 0, and eq. (10) hardly moves it from one side to the other: the KL's logarithm stands between.
    """

    def __init__(self, latent_shape: LatentShape, sigma_bound: float | None, low_frequency: int | None) -> None:
        super().__init__()
        channels, height, width = self.latent_shape = _check_shape(latent_shape)
        self.sigma_bound = _check_bound(sigma_bound)
        self.low_frequency = _check_frequencies(low_frequency, min(height, width))
        self.grid = (channels, low_frequency or height, low_frequency or width)
        if low_frequency is not None:
            # Not in the checkpoint: they follow from the settings.
            self.register_buffer("rows", cosine_basis(height, low_frequency), persistent=False)
            self.register_buffer("columns", cosine_basis(width, low_frequency).T.contiguous(), persistent=False)

    @property
    def size(self) -> int:
        """Numbers for mu, and as many for sigma."""
        return math.prod(self.grid)

    def standard(self) -> tuple[Tensor, Tensor]:
        """The numbers, twice [size], that mean exactly the standard Gaussian."""
        zeros = torch.zeros(self.size)
        return zeros, zeros + 1 if self._is_plain else zeros.clone()

    def forward(self, mu: Tensor, sigma: Tensor) -> Gaussian:
        """Numbers [B, size] for mu and for sigma -> the Gaussian over [B, C, h, w]."""
        mean, spread = self._expand(mu), self._expand(sigma)
        if self.sigma_bound is not None:
            spread = self.sigma_bound * spread.tanh()
        return Gaussian(mean, spread if self._is_plain else 1 + spread)

    @property
    def _is_plain(self) -> bool:
        """Whether the numbers are sigma itself rather than what it differs by from 1."""
        return self.sigma_bound is None and self.low_frequency is None

    def _expand(self, numbers: Tensor) -> Tensor:
        field = numbers.unflatten(1, self.grid)
        return field if self.low_frequency is None else self.rows @ field @ self.columns


def _check_shape(shape: LatentShape) -> LatentShape:
    if len(shape) != 3 or any(size < 1 for size in shape):
        raise ModelError(f"no noise has the shape {shape}", fix="use three positive sizes: channels, height, width")
    return shape


def _check_bound(bound: float | None) -> float | None:
    if bound is not None and not 0 < bound < 1:
        raise ModelError(f"a sigma_bound of {bound} is out of range", fix="use more than 0 and less than 1")
    return bound


def _check_frequencies(count: int | None, most: int) -> int | None:
    if count is not None and not 1 <= count <= most:
        what = f"low_frequency = {count} does not fit latents of {most} rows or columns"
        raise ModelError(what, fix=f"use 1 to {most}, or leave it out")
    return count
