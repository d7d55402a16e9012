"""Prepares pictures [B, 3, H, W] in [0, 1] for an image encoder, differentiably.

The published scorers prepare a picture with Pillow or torchvision. These are the same steps on tensors, without
rounding to bytes:

    cover      resize the shorter edge, cut out the centre (CLIP, PickScore, ImageReward, the aesthetic head)
    contain    resize the longer edge, add black bars (HPSv2)

Then `Preprocess` subtracts a mean and divides by a standard deviation.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pahi_rt.errors import ScorerError

CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD = (0.26862954, 0.26130258, 0.27577711)
"""Mean and standard deviation of the pictures that OpenAI's CLIP was trained on. open_clip, BLIP and their descendants
use the same."""


@dataclass(frozen=True)
class Layout:
    """Where a picture goes in a square, in pixels."""

    height: int
    """What it is resized to."""
    width: int
    top: int
    """The square's row in which it begins; negative if so many of its own rows are cut off."""
    left: int
    is_clamped: bool
    """Whether it is resized as bytes are: see `resize_as_bytes`."""


Fit = Callable[[int, int, int], Layout]
"""Height and width of a picture, and the edge of a square -> where it goes."""


def check_inputs(images: Tensor, prompts: Sequence[str]) -> None:
    """Raises ScorerError unless `images` are float [B, 3, H, W] and there are B prompts."""
    if images.ndim != 4 or images.shape[1] != 3 or 0 in images.shape:
        raise ScorerError(f"pictures of shape {list(images.shape)} cannot be scored", fix="give [B, 3, H, W] in [0, 1]")
    if not images.is_floating_point():
        raise ScorerError(f"pictures of type {images.dtype} cannot be scored", fix="divide them by 255 for [0, 1]")
    if isinstance(prompts, str) or len(prompts) != len(images):
        count = "one string" if isinstance(prompts, str) else f"{len(prompts)} prompts"
        raise ScorerError(f"{count} for {len(images)} pictures", fix="give a list with one prompt for each picture")


def resize(images: Tensor, height: int, width: int) -> Tensor:
    """Resize with Pillow's filter, bicubic and antialiased, in fp32. Values may leave [0, 1] at sharp edges.

    HPSv2's own code resizes tensors with torchvision, which antialiases them since release 0.17 and did not when the
    model was trained (2023). This function always antialiases: as the reference does today, as the other scorers' code
    does with Pillow, and so that no pixel is skipped that a prior could change unseen. Without antialiasing, HPSv2.1's
    architecture with random weights gave scores that differ by 0.6e-4 to 2.3e-4.
    """
    return F.interpolate(images.float(), size=(height, width), mode="bicubic", antialias=True)


def resize_as_bytes(images: Tensor, height: int, width: int) -> Tensor:
    """As `resize`, clamped to [0, 1] as Pillow clamps bytes: after the rows, and again after the columns.

    Clamped values have no gradient.
    """
    rows = resize(images, images.shape[-2], width).clamp(0, 1)
    return resize(rows, height, width).clamp(0, 1)


def cover(height: int, width: int, size: int, round_offset: Callable[[float], int] = math.floor) -> Layout:
    """Resize the shorter edge to `size`, and cut out the central square.

    If an odd number of columns is cut off, transformers cuts the extra one on the right (`math.floor`), and torchvision
    rounds half to even (`round`).
    """
    short = min(height, width)
    height, width = int(size * height / short), int(size * width / short)
    top, left = round_offset((height - size) / 2), round_offset((width - size) / 2)
    return Layout(height, width, -top, -left, is_clamped=True)


def contain(height: int, width: int, size: int) -> Layout:
    """Resize the longer edge to `size`, and centre the picture on black, as in HPSv2."""
    ratio = size / max(height, width)
    height, width = round(height * ratio), round(width * ratio)
    return Layout(height, width, (size - height) // 2, (size - width) // 2, is_clamped=False)


def arrange(images: Tensor, layout: Layout, size: int) -> Tensor:
    """Pictures [B, 3, H, W] -> squares [B, 3, size, size]."""
    resized = (resize_as_bytes if layout.is_clamped else resize)(images, layout.height, layout.width)
    below, right = size - layout.top - layout.height, size - layout.left - layout.width
    return F.pad(resized, (layout.left, right, layout.top, below))  # a negative number cuts


class Preprocess(nn.Module):
    """(square - mean) / std, channel by channel: [B, 3, H, W] in [0, 1] -> [B, 3, size, size]."""

    mean: Tensor
    std: Tensor

    def __init__(
        self, size: int, fit: Fit = cover, mean: Sequence[float] = CLIP_MEAN, std: Sequence[float] = CLIP_STD
    ) -> None:
        super().__init__()
        self.size = size
        self.fit = fit
        self.register_buffer("mean", torch.tensor(mean).view(3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std).view(3, 1, 1), persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        height, width = images.shape[-2:]
        return (arrange(images, self.fit(height, width, self.size), self.size) - self.mean) / self.std
