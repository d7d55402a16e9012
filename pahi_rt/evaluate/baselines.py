"""Ways to make the noise x_T from a prompt's pooled embedding and standard Gaussian eps, learned or not.

    gaussian          x_T = eps, which every row of Table 1 is compared with
    learned           HI or PAHI
    scaled            eps x 0.8
    low_frequency     low frequencies x 1.5, the rest x 0.7
    high_frequency    high frequencies x 1.5, the rest x 0.7

The last three need no training. In a trial they won as often as a prior that had learned only to make noise smaller or
smoother. So a prior is worth only what it gains beyond them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from pahi_rt.models.gaussians import LatentShape, cosine_basis, kl_divergence, sample_noise
from pahi_rt.models.priors import Prior

SHARE = 4
"""Low frequencies are the lowest 1 / SHARE along each axis, by the discrete cosine transform; high ones the highest."""


@dataclass(frozen=True)
class Sampler:
    """A way to make the noise that the generator starts from."""

    name: str
    sample: Callable[[Tensor, Tensor], Tensor]
    """Pooled embeddings [B, P] and standard Gaussian eps [B, C, h, w] -> x_T [B, C, h, w]."""
    kl: Callable[[Tensor], Tensor]
    """Pooled embeddings [B, P] -> KL of x_T's distribution to the standard Gaussian [B], in nats."""


def gaussian() -> Sampler:
    """The standard Gaussian."""
    return Sampler("Gaussian", lambda pooled, eps: eps, lambda pooled: pooled.new_zeros(len(pooled)))


def learned(name: str, prior: Prior) -> Sampler:
    """A trained prior, eqs. (6) and (8)."""
    return Sampler(
        name, lambda pooled, eps: sample_noise(prior(pooled), eps), lambda pooled: kl_divergence(prior(pooled))
    )


def untrained(latent_shape: LatentShape) -> tuple[Sampler, ...]:
    """The baselines that a trained prior is compared with."""
    return scaled(latent_shape), low_frequency(latent_shape), high_frequency(latent_shape)


def scaled(latent_shape: LatentShape, factor: float = 0.8) -> Sampler:
    """Smaller noise: eps x `factor`."""
    nats = math.prod(latent_shape) * spread_nats(factor)
    return Sampler(f"eps x {factor:g}", lambda pooled, eps: factor * eps, lambda pooled: _constant(pooled, nats))


def low_frequency(latent_shape: LatentShape, low: float = 1.5, rest: float = 0.7) -> Sampler:
    """Smoother noise: low frequencies of each channel x `low`, the rest x `rest`."""
    return _band(f"low x{low:g}, rest x{rest:g}", latent_shape, lambda size: range(_share(size)), low, rest)


def high_frequency(latent_shape: LatentShape, high: float = 1.5, rest: float = 0.7) -> Sampler:
    """Rougher noise: high frequencies of each channel x `high`, the rest x `rest`. A generator may read there what to
    draw; the embedded one does."""
    return _band(f"high x{high:g}, rest x{rest:g}", latent_shape, lambda size: range(size)[-_share(size) :], high, rest)


def _band(
    name: str, latent_shape: LatentShape, choose: Callable[[int], Sequence[int]], factor: float, rest: float
) -> Sampler:
    """Scale the frequencies that `choose(size)` lists for an axis of that size by `factor`, all others by `rest`."""
    channels, height, width = latent_shape
    rows, columns = choose(height), choose(width)
    few = channels * len(rows) * len(columns)
    nats = few * spread_nats(factor) + (math.prod(latent_shape) - few) * spread_nats(rest)
    project_rows, project_columns = _projection(height, rows), _projection(width, columns)

    def sample(pooled: Tensor, eps: Tensor) -> Tensor:
        band = project_rows.to(eps) @ eps @ project_columns.to(eps)
        return factor * band + rest * (eps - band)

    return Sampler(name, sample, lambda pooled: _constant(pooled, nats))


def spread_nats(std: float) -> float:
    """KL(N(0, std^2), N(0, 1)) in nats."""
    return (std**2 - 1) / 2 - math.log(std)


def best_of_nats(count: int) -> float:
    """KL in nats from the best of n = `count` draws to one draw: ln n - (n - 1) / n, or less if several score the same.

    From Beirami et al. 2024, "Theoretical guarantees on the best-of-n alignment policy".
    """
    return math.log(count) - (count - 1) / count


def _share(size: int) -> int:
    return max(1, size // SHARE)


def _projection(size: int, frequencies: Sequence[int]) -> Tensor:
    """The projection [size, size] onto the cosines of these frequencies."""
    basis = cosine_basis(size, size)[:, list(frequencies)]
    return basis @ basis.T / size


def _constant(pooled: Tensor, value: float) -> Tensor:
    return torch.full((len(pooled),), value, device=pooled.device)
