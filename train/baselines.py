"""Ways to make noise, learned and not: x_T from a prompt's pooled embedding and standard Gaussian eps.

    gaussian          x_T = eps, what every row of Table 1 is held against
    learned           HI or PAHI
    scaled            eps x 0.8
    low_frequency     low frequencies x 1.5, the rest x 0.7

The last two need no training, and in a trial they won as often as a prior that had learned only to make noise
smaller or smoother. What a prior is worth is what it has beyond them.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from pahi_rt.train.gaussians import LatentShape, cosine_basis, kl_divergence, sample_noise
from pahi_rt.train.priors import Prior

LOW_SHARE = 4
"""Low frequencies are the lowest 1 / LOW_SHARE of those along either axis, by the discrete cosine transform."""


@dataclass(frozen=True)
class Sampler:
    """A way to make the noise that a generator starts from."""

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


def scaled(latent_shape: LatentShape, factor: float = 0.8) -> Sampler:
    """Smaller noise: eps x `factor`."""
    nats = math.prod(latent_shape) * spread_nats(factor)
    return Sampler(f"eps x {factor:g}", lambda pooled, eps: factor * eps, lambda pooled: _constant(pooled, nats))


def low_frequency(latent_shape: LatentShape, low: float = 1.5, rest: float = 0.7) -> Sampler:
    """Smoother noise: low frequencies of each channel x `low`, the rest x `rest`."""
    channels, height, width = latent_shape
    rows, columns = (max(1, size // LOW_SHARE) for size in (height, width))
    few = channels * rows * columns
    nats = few * spread_nats(low) + (math.prod(latent_shape) - few) * spread_nats(rest)
    smooth_rows, smooth_columns = _projection(height, rows), _projection(width, columns)

    def sample(pooled: Tensor, eps: Tensor) -> Tensor:
        smooth = smooth_rows.to(eps) @ eps @ smooth_columns.to(eps)
        return low * smooth + rest * (eps - smooth)

    return Sampler(f"low x{low:g}, rest x{rest:g}", sample, lambda pooled: _constant(pooled, nats))


def spread_nats(std: float) -> float:
    """KL(N(0, std^2), N(0, 1)) in nats."""
    return (std**2 - 1) / 2 - math.log(std)


def best_of_nats(count: int) -> float:
    """KL in nats of the best of `count` draws to one draw, if no two score alike: ln n - (n - 1) / n; else it is less.

    (Beirami et al. 2024, "Theoretical guarantees on the best-of-n alignment policy".)
    """
    return math.log(count) - (count - 1) / count


def _projection(size: int, count: int) -> Tensor:
    """[size, size]: onto the `count` lowest cosines."""
    basis = cosine_basis(size, count)
    return basis @ basis.T / size


def _constant(pooled: Tensor, value: float) -> Tensor:
    return torch.full((len(pooled),), value, device=pooled.device)
