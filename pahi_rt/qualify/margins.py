"""Margins: how much worse than the reference pictures may be, and why that much.

A graph with the reference's own weights, in a runtime that promises one level, has to keep one level. A graph of fewer
bits may cost what export lets it cost, and no more than a yardstick does to the same pictures: saving them as JPEG.
"""

from __future__ import annotations

import io
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pahi_rt.export.parity import EIGHT_BITS, SAME_ARITHMETIC
from pahi_rt.export.precision import ALL
from pahi_rt.pictures import psnr

JPEG_QUALITY = 75
"""Pillow's default, and that of many programs that write pictures for the web."""
OTHER_PICTURE_DB = 20.0
"""PSNR below which a picture is another one: a tenth of the range, on average. Moved edges are enough for that."""
OTHER_PICTURES = 0.05
"""Share of such pictures."""
SCORE = -0.1
"""Change of a mean score, in standard deviations between the reference's pictures."""
ONE_LEVEL_DB = psnr(1 / 255**2)


@dataclass(frozen=True)
class Margin:
    """A limit, and where it comes from."""

    limit: float | None
    """None for what is shown and not judged."""
    reason: str
    is_floor: bool = True
    """Whether the limit is the least value; else it is the most."""


@dataclass(frozen=True)
class Standard:
    """What the pictures of one row are held to."""

    is_exact: bool
    """Whether they must be the reference's, to one level."""
    psnr: Margin

    @classmethod
    def of(cls, precision: str, reference: str, keeps_levels: bool) -> Standard:
        """The standard of a graph of one precision, against a reference of another one.

        `keeps_levels` is whether the runtime promises what others draw, to one level.
        """
        if keeps_levels and precision == reference and ALL[precision].is_32_bit:
            return cls(True, Margin(ONE_LEVEL_DB, "every value one level away, which is all that runtimes may differ"))
        near = ALL[precision].near if keeps_levels else EIGHT_BITS
        limit = near.psnr_db or EIGHT_BITS.psnr_db
        bits = precision if keeps_levels else "8-bit"
        return cls(False, Margin(limit, f"the least that export asks of {bits} graphs"))

    @property
    def levels(self) -> Margin:
        """The share of values that must be at most one level away."""
        if self.is_exact:
            return Margin(SAME_ARITHMETIC.levels_within_one, "what export asks of the same arithmetic")
        return Margin(None, "not judged: fewer bits move values by more than a level, and it need not be seen")

    @property
    def yardstick(self) -> str:
        """What is done to the reference's pictures to see how much a measure may move: the reason of its margin."""
        what = "one level, up or down, on every value" if self.is_exact else f"JPEG at quality {JPEG_QUALITY}"
        return f"what {what} does to the same pictures of the reference"

    def alter(self, pictures: NDArray[np.uint8], first: int = 0) -> NDArray[np.uint8]:
        """Pictures [N, H, W, 3] of the reference, altered by the yardstick. `first` is the number of the first."""
        return _move(pictures, first) if self.is_exact else np.stack([_compress(picture) for picture in pictures])


OTHER = Margin(
    OTHER_PICTURES,
    f"one picture in {round(1 / OTHER_PICTURES)}: noise decides the layout anew where bits are few, now and then",
    is_floor=False,
)
BLANK = Margin(0, "one is a fault of the arithmetic", is_floor=False)
SCORES = Margin(SCORE, "half of the effect that Cohen (1988) calls small, in the spread between pictures")


def _move(pictures: NDArray[np.uint8], seed: int) -> NDArray[np.uint8]:
    signs = np.random.default_rng(seed).integers(0, 2, pictures.shape, np.int8) * 2 - 1
    return np.clip(pictures.astype(np.int16) + signs, 0, 255).astype(np.uint8)


def _compress(picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, "JPEG", quality=JPEG_QUALITY)
    return np.asarray(Image.open(buffer).convert("RGB"))
