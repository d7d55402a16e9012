"""Fits the mean of a prior to estimates of a, and tells its gain on prompts of other meaning.

`pahi_rt.evaluate.ceiling` says what a is. A fit gives each prompt the mean mu = sum of w_q a_q over prompts q of other
meanings. Its gain is mu . a, with the prompt's own a, whose noise is independent of mu.
"""

from __future__ import annotations

import torch
from torch import Tensor

RIDGES = (0.01, 0.1, 1.0, 10.0, 100.0)
"""Strengths of the ridge to choose from, in units of the mean of the kernel's diagonal."""

Gain = tuple[Tensor, Tensor]
"""mu . a [N] and |mu|^2 [N] for N prompts."""


def fit_one(a: Tensor, halves: Tensor, meanings: Tensor) -> list[Gain] | None:
    """HI: mu is the mean of all other a. `a` [N, D] and `halves` [N, 2, D] as in `fit_prompts`."""
    others = (meanings[:, None] != meanings[None]).to(a)
    if not others.any():
        return None
    weights = others / others.sum(1, keepdim=True)
    return [_gain(weights, a, halves[:, half]) for half in (0, 1)]


def fit_prompts(pooled: Tensor, a: Tensor, halves: Tensor, meanings: Tensor) -> list[Gain] | None:
    """PAHI: mu by ridge regression of a [N, D] on the standardised embedding `pooled` [N, P] and a constant.

    `halves` [N, 2, D]: a from one half of the noises and from the other. One half chooses the strength of the ridge,
    and the gain is measured on the other; then the other way round. None if all `meanings`, int64 [N], are the same.
    """
    if len(meanings.unique()) < 2:
        return None
    std = pooled.std(0, correction=0)
    features = (pooled - pooled.mean(0)) / std.clamp_min(std.mean() / 100).clamp_min(1e-12)
    kernel = 1 + features @ features.T / features.shape[1]
    tables = [_predict(kernel, meanings, ridge) for ridge in RIDGES]
    first, second = ([_gain(weights, a, halves[:, half]) for weights in tables] for half in (0, 1))
    return [_choose(second, first), _choose(first, second)]


def _predict(kernel: Tensor, meanings: Tensor, ridge: float) -> Tensor:
    """Weights [N, N] that predict each prompt's a from those of other meanings."""
    weights = torch.zeros_like(kernel)
    strength = ridge * kernel.diagonal().mean()
    for meaning in meanings.unique():
        inside = meanings == meaning
        rest = kernel[~inside][:, ~inside]
        solved = torch.linalg.solve(rest + strength * torch.eye(len(rest)).to(rest), kernel[~inside][:, inside])
        weights[torch.outer(inside, ~inside)] = solved.T.flatten()
    return weights


def _gain(weights: Tensor, a: Tensor, own: Tensor) -> Gain:
    mu = weights @ a
    return (mu * own).sum(1), mu.square().sum(1)


def _choose(known: list[Gain], unknown: list[Gain]) -> Gain:
    """The gain in `unknown` of the fit that gains most in `known`."""
    values = [float(gain.mean() / square.mean().sqrt()) for gain, square in known]
    return unknown[values.index(max(values))]
