"""Diagonal Gaussians over the noise: how a learned prior describes one, samples it, and how far it is from N(0, I).

The paper's x_T = eps * sigma^2 + mu (eqs. 6 and 8) scales by sigma^2 and not by sigma, so the standard deviation
is sigma^2 throughout, the KL divergence included. The sign of sigma means nothing.

Diagonal may be meant in other coordinates than the values of the noise: those of an orthonormal basis, in which
standard Gaussian noise is standard Gaussian noise, and a KL divergence is what it was.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor, nn

from pahi_rt.errors import PahiError

LatentShape = tuple[int, int, int]
"""Channels, height, width."""


Basis = Literal["pixel", "cosine"]
"""What a Gaussian is diagonal in: the values of the noise, as in the paper, or their cosine coefficients."""


@dataclass(frozen=True)
class Cosines:
    """Orthonormal functions of the rows and the columns of a channel; coordinates are the coefficients of products."""

    rows: Tensor
    """[h, k]"""
    columns: Tensor
    """[w, l]"""

    def analyse(self, noise: Tensor) -> Tensor:
        """[B, C, h, w] -> coordinates [B, C, k, l]."""
        return self.rows.T @ noise @ self.columns

    def synthesise(self, coordinates: Tensor) -> Tensor:
        """[B, C, k, l] -> [B, C, h, w]."""
        return self.rows @ coordinates @ self.columns.T


@dataclass(frozen=True)
class Gaussian:
    """A diagonal Gaussian over the noise x_T, one per prompt of a batch (eq. 3)."""

    mu: Tensor
    """[B, C, h, w], or coordinates [B, C, k, l]."""
    sigma: Tensor
    """Of the same shape; its square is the standard deviation."""
    cosines: Cosines | None = None
    """The coordinates that mu and sigma are in; what these functions do not span stays standard Gaussian. None: the
    values of the noise themselves."""

    @property
    def std(self) -> Tensor:
        """Standard deviation, of the shape of sigma."""
        return self.sigma.square()


def sample_noise(gaussian: Gaussian, eps: Tensor, strength: float | Tensor = 1.0) -> Tensor:
    """Standard Gaussian noise [B, C, h, w] -> x_T of the same shape: eps * std + mean, in the Gaussian's coordinates.

    With w = `strength`, one number or one per prompt [B], std = 1 + w (sigma^2 - 1) and mean = w mu: 1 is the paper's
    eq. (6) and (8), and 0 is `eps` itself, bit for bit.
    """
    weight = strength.reshape(-1, 1, 1, 1) if isinstance(strength, Tensor) else strength
    if gaussian.cosines is None:
        return eps * (1 + weight * (gaussian.std - 1)) + weight * gaussian.mu
    coordinates = gaussian.cosines.analyse(eps)
    # The change alone is transformed back: where there is none, eps comes out as it was.
    return eps + gaussian.cosines.synthesise(weight * (coordinates * (gaussian.std - 1) + gaussian.mu))


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
    - `basis` = "cosine": they are mu and sigma - 1 of each channel's cosine coefficients, which a diagonal Gaussian can
      make larger or smaller one by one; mu as its root mean square over the channel, which is what one learns at the
      same rate as plain values. A generator may read from one frequency what to draw, and nothing from the rest.
    - `low_frequency` = k: only the k x k lowest coefficients are learned. In the pixel basis these are the coefficients
      of smooth fields mu and sigma - 1; in a trial most of the gain of mu was at low frequencies.
    - `sigma_bound` = b < 1: sigma = 1 + b tanh(.), which neither grows nor reaches 0, where the KL is infinite.
    All count sigma from 1, so that an MLP's random weights begin near the standard Gaussian. The paper's sigma begins
    around 0, and eq. (10) hardly moves it from one side to the other: the KL's logarithm stands between.
    """

    rows: Tensor
    columns: Tensor

    def __init__(
        self, latent_shape: LatentShape, sigma_bound: float | None, low_frequency: int | None, basis: Basis
    ) -> None:
        super().__init__()
        channels, height, width = self.latent_shape = _check_shape(latent_shape)
        self.sigma_bound, self.basis = _check_bound(sigma_bound), _check_basis(basis)
        self.low_frequency = _check_frequencies(low_frequency, min(height, width))
        self.grid = (channels, low_frequency or height, low_frequency or width)
        if not self._is_plain_field:
            # Not in the checkpoint: they follow from the settings.
            self.register_buffer("rows", cosine_basis(height, self.grid[1]), persistent=False)
            self.register_buffer("columns", cosine_basis(width, self.grid[2]), persistent=False)

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
        mean, spread = mu.unflatten(1, self.grid), sigma.unflatten(1, self.grid)
        cosines = None
        if self.basis == "cosine":
            _, height, width = self.latent_shape
            cosines = Cosines(self.rows / height**0.5, self.columns / width**0.5)
            mean = mean * (height * width) ** 0.5
        elif self.low_frequency is not None:
            mean, spread = (self.rows @ field @ self.columns.T for field in (mean, spread))
        if self.sigma_bound is not None:
            spread = self.sigma_bound * spread.tanh()
        return Gaussian(mean, spread if self._is_plain else 1 + spread, cosines)

    @property
    def _is_plain_field(self) -> bool:
        """Whether there is a number for each value of the noise."""
        return self.basis == "pixel" and self.low_frequency is None

    @property
    def _is_plain(self) -> bool:
        """Whether the numbers are sigma itself rather than what it differs by from 1."""
        return self._is_plain_field and self.sigma_bound is None


def _check_basis(basis: Basis) -> Basis:
    if basis not in get_args(Basis):
        raise PahiError(f"there is no basis {basis!r}", fix=f"use {' or '.join(get_args(Basis))}")
    return basis


def _check_shape(shape: LatentShape) -> LatentShape:
    if len(shape) != 3 or any(size < 1 for size in shape):
        raise PahiError(f"no noise has the shape {shape}", fix="use three positive sizes: channels, height, width")
    return shape


def _check_bound(bound: float | None) -> float | None:
    if bound is not None and not 0 < bound < 1:
        raise PahiError(f"a sigma_bound of {bound} is out of range", fix="use more than 0 and less than 1")
    return bound


def _check_frequencies(count: int | None, most: int) -> int | None:
    if count is not None and not 1 <= count <= most:
        what = f"low_frequency = {count} does not fit latents of {most} rows or columns"
        raise PahiError(what, fix=f"use 1 to {most}, or leave it out")
    return count
