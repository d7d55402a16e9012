"""What a graph gives back, whatever ran it: a stranger's graph may give anything."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pahi_rt.errors import BundleError
from pahi_rt.manifest import ImageSpec


def check_pictures(found: object, count: int, image: ImageSpec) -> NDArray[np.uint8]:
    """`found`, if it is `count` pictures, uint8 [count, H, W, 3]. Raises BundleError that says what it is instead."""
    expected = (count, image.height, image.width, 3)
    if isinstance(found, np.ndarray) and found.dtype == np.uint8 and found.shape == expected:
        return found
    actual = f"{found.dtype} {list(found.shape)}" if isinstance(found, np.ndarray) else type(found).__name__
    what = f"the graph draws {actual}, where its manifest says uint8 {list(expected)}"
    raise BundleError(what, fix="export the bundle again, or get a fresh copy of it")
