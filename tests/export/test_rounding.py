"""Matrices in fewer bits: rounded before the export, and found again in the graph afterwards."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from pahi_rt.errors import PahiError
from pahi_rt.export.rounding import LEVELS, Round, as_float16, as_levels, round_matrices, to_float16, to_levels


@pytest.mark.parametrize("to", [to_float16, to_levels])
def test_rounding_spares_vectors_and_is_done_once(to: Round) -> None:
    layer = nn.Linear(32, 8)
    weight, bias = layer.weight.clone(), layer.bias.clone()
    round_matrices(layer, to)
    rounded = layer.weight.clone()
    assert torch.equal(layer.bias, bias) and not torch.equal(rounded, weight)
    round_matrices(layer, to)
    assert torch.equal(layer.weight, rounded)


def test_float16_refuses_what_it_cannot_hold() -> None:
    layer = nn.Linear(2, 2)
    nn.init.constant_(layer.weight, 1e5)
    with pytest.raises(PahiError, match="weight is out of float16's range"):
        round_matrices(layer, to_float16)


@pytest.mark.parametrize("size", [1e-20, 1e-3, 1.0, 1e6])
def test_levels_are_near(size: float) -> None:
    weight = size * torch.randn(16, 4, 3, 3, generator=torch.Generator().manual_seed(0))
    error = (to_levels("w", weight) - weight).abs().flatten(1).amax(1)
    assert (error <= 0.51 * weight.abs().flatten(1).amax(1) / LEVELS).all()


def test_a_row_of_zeros_stays() -> None:
    weight = torch.zeros(3, 64)
    weight[1] = torch.linspace(-1, 1, 64)
    rounded = to_levels("w", weight)
    assert torch.equal(rounded[[0, 2]], weight[[0, 2]]) and rounded[1].abs().max() > 0.99


@pytest.mark.parametrize("shape", [(40, 64), (16, 8, 3, 3)])
def test_what_was_rounded_to_levels_is_stored_as_those(shape: tuple[int, ...]) -> None:
    weight = to_levels("w", torch.randn(shape, generator=torch.Generator().manual_seed(1))).numpy()
    for array, scales in ((weight, (0, *[1] * (len(shape) - 1))), (np.ascontiguousarray(weight.T), None)):
        packed = as_levels(array)
        assert packed.array.dtype == np.int8 and packed.scale is not None
        assert np.array_equal(packed.array * packed.scale, array)
        assert packed.scale.size == shape[0]
        if scales is not None:
            assert packed.scale.shape == (shape[0], *scales[1:])


def test_other_matrices_lose_nothing() -> None:
    random = np.random.default_rng(0).normal(size=(32, 32)).astype(np.float32)
    half = random.astype(np.float16).astype(np.float32)
    assert as_levels(random).array.dtype == np.float32
    assert as_levels(half).array.dtype == np.float16
    assert as_float16(random).array.dtype == np.float32
    with np.errstate(over="raise"):
        assert as_float16(np.full((9, 9), 1e6, np.float32)).array.dtype == np.float32
    vector = np.ones(64, np.float32)
    assert as_levels(vector).array is vector
    # Scales of rows this short would take more room than the levels save.
    column = to_levels("w", torch.randn(64, 1)).numpy()
    scale = as_levels(column).scale
    assert scale is None or scale.size == 1
