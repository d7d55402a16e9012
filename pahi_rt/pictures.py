"""Pictures as arrays: float values in [0, 1], the bytes that a file holds, and how far two pictures are apart."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray


def to_bytes(values: NDArray[np.floating[Any]]) -> NDArray[np.uint8]:
    """Values in [0, 1] -> 0 to 255, rounded half to even, as exported graphs do. What NaN becomes is undefined."""
    with np.errstate(invalid="ignore"):
        levels: NDArray[np.uint8] = np.rint(values * 255).astype(np.uint8)
    return levels


def psnr(squared_error: float) -> float:
    """Peak signal-to-noise ratio in dB of pictures in [0, 1] with this mean squared error; infinity if it is 0."""
    return -10 * float(np.log10(squared_error)) if squared_error else math.inf


def rounded_psnr(squared_error: float) -> float | None:
    """`psnr` with two decimals; None for equal pictures, as JSON has no infinity."""
    return round(psnr(squared_error), 2) if squared_error else None
