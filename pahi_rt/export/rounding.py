"""Rounds matrices to fewer bits before a model is exported, and stores them in those bits afterwards.

A graph's arithmetic stays as it was: PyTorch draws the same with the rounded matrices, so storing them loses nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from pahi_rt.errors import PahiError

LEVELS = 127
"""Number of 8-bit levels on either side of zero."""
SCALE_BITS = 11
"""Bits of a scale's mantissa. Its product with a level is then exact in float32, and can be taken apart again."""

FEWEST = 8
"""Least number of values for each scale. With fewer, the scales would outweigh what they save."""

Round = Callable[[str, Tensor], Tensor]
"""Name, for errors, and matrix -> the matrix rounded."""


@torch.no_grad()
def round_matrices(model: nn.Module, to: Round) -> None:
    """Round every parameter of two or more axes, in place.

    Vectors (biases and norms, a thousandth of all weights) keep their precision.
    """
    for name, parameter in model.named_parameters():
        if parameter.dim() >= 2:
            parameter.copy_(to(name, parameter))


def to_float16(name: str, tensor: Tensor) -> Tensor:
    """Round to what float16 can hold, in float32. Raises PahiError for values out of its range."""
    return to_half(name, tensor).float()


def to_half(name: str, tensor: Tensor) -> Tensor:
    """Convert to float16. Raises PahiError for values out of its range."""
    half = tensor.half()
    if not half.isfinite().all():
        raise PahiError(f"{name} is out of float16's range", fix="export with --precision fp32")
    return half


def to_levels(name: str, tensor: Tensor) -> Tensor:
    """Round each row of a matrix [out, ...] to the multiples, -127 to 127, of a scale of its own."""
    mantissa, exponent = torch.frexp(tensor.flatten(1).abs().amax(1) / LEVELS)
    scale = torch.ldexp(torch.ceil(torch.ldexp(mantissa, torch.tensor(SCALE_BITS))), exponent - SCALE_BITS)
    scale = scale.where(scale > 0, 1).view(-1, *[1] * (tensor.dim() - 1))
    return (tensor / scale).round() * scale


@dataclass(frozen=True)
class Packed:
    """A tensor as it is stored: `array`, or `array` times `scale` if there is one."""

    array: NDArray[Any]
    scale: NDArray[np.float32] | None = None


Pack = Callable[[NDArray[Any]], Packed]
"""Finds the smallest way to store a tensor without loss."""


def as_float16(array: NDArray[Any]) -> Packed:
    """Pack a matrix of float32 as float16 if that loses nothing; leave everything else."""
    if not _is_matrix(array):
        return Packed(array)
    with np.errstate(over="ignore"):
        half = array.astype(np.float16)
    return Packed(half if np.array_equal(half, array) else array)


def as_levels(array: NDArray[Any]) -> Packed:
    """Pack a matrix as int8 if its rows are multiples of a scale; pack everything else as `as_float16` does.

    Its columns are tried as well, since the exporter transposes some matrices.
    """
    for axis in (0, array.ndim - 1) if _is_matrix(array) else ():
        if array.size < FEWEST * array.shape[axis]:
            continue
        others = tuple(other for other in range(array.ndim) if other != axis)
        scale = np.abs(array).max(others, keepdims=True) / np.float32(LEVELS)
        scale[scale == 0] = 1
        levels = np.rint(array / scale).astype(np.int8)
        if np.array_equal(levels * scale, array):
            return Packed(levels, scale)
    return as_float16(array)


def _is_matrix(array: NDArray[Any]) -> bool:
    return bool(array.dtype == np.float32 and array.ndim >= 2)
