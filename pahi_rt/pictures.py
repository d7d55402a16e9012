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


def squared_errors(drawn: NDArray[np.uint8], expected: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Mean squared error of each picture [N], of values in [0, 1], for pictures [N, H, W, 3]."""
    pairs = zip(drawn, expected, strict=True)
    return np.array([((one.astype(np.float64) - other) ** 2).mean() for one, other in pairs]) / 255**2


def within_one_level(drawn: NDArray[np.uint8], expected: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Share of each picture's values [N] that differ by at most one level, for pictures [N, H, W, 3]."""
    pairs = zip(drawn, expected, strict=True)
    return np.array([(np.abs(one.astype(np.int16) - other) <= 1).mean() for one, other in pairs])


def structural_similarities(drawn: NDArray[np.uint8], expected: NDArray[np.uint8]) -> NDArray[np.float64]:
    """SSIM of each picture [N], mean over windows of 7 x 7 and over colours (Wang et al. 2004), by scikit-image.

    Pictures [N, H, W, 3] have sides of at least 7 pixels.
    """
    from skimage.metrics import structural_similarity

    pairs = zip(drawn, expected, strict=True)
    return np.array([structural_similarity(one, other, channel_axis=-1) for one, other in pairs])
