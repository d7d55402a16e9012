"""A runtime without a model, for the tests of programs that use pahi-rt."""

from __future__ import annotations

import zlib

import numpy as np
from numpy.typing import NDArray


class FakeRuntime:
    """Draws one plain colour per picture. Its inputs alone decide it: equal inputs, equal pictures.

    pipeline = Pipeline(open_bundle("emoji"), FakeRuntime(128, 128))
    """

    def __init__(self, height: int, width: int) -> None:
        self._size = (height, width)

    def run(
        self, input_ids: NDArray[np.int64], noise: NDArray[np.float32], prior_strength: NDArray[np.float32]
    ) -> NDArray[np.uint8]:
        """input_ids [B, T], noise [B, C, h, w], prior_strength [B] in 0..1 -> pictures [B, H, W, 3]."""
        colours = [_colour(*row) for row in zip(input_ids, noise, prior_strength, strict=True)]
        pictures = np.empty((len(colours), *self._size, 3), np.uint8)
        pictures[:] = np.array(colours, np.uint8)[:, None, None]
        return pictures

    def describe(self) -> dict[str, str | int]:
        """The same keys as those of a real runtime."""
        return {"runtime": "fake", "version": "1", "device": "none", "precision": "none", "threads": 0}


def _colour(*inputs: NDArray[np.generic]) -> list[int]:
    digest = 0
    for value in inputs:
        digest = zlib.crc32(np.ascontiguousarray(value).tobytes(), digest)
    return list(digest.to_bytes(4, "little")[:3])
