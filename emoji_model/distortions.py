"""Distortions of pictures for training the emoji scorers: some must not matter to a scorer, others must.

Places, sizes and widths are all random: from a seam that is always in the same row, a scorer would learn the row and
not the damage.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F


def jitter(pictures: Tensor, rng: torch.Generator) -> Tensor:
    """Distort each picture a little, in ways that must not matter: contrast, brightness, sharpness and noise."""

    def uniform(low: float, high: float) -> Tensor:
        return low + (high - low) * torch.rand(len(pictures), 1, 1, 1, generator=rng)

    # Drawings are sharper than generated pictures: with a smaller range (0.4) scorers preferred sharpened pictures.
    pictures = pictures + uniform(-0.8, 0.8) * (pictures - box_blur(pictures, 1))
    pictures = (pictures - 0.5) * uniform(0.9, 1.1) + 0.5 + uniform(-0.05, 0.05)
    noise = torch.randn(pictures.shape, generator=rng) * uniform(0, 0.02)
    return (pictures + noise).clamp(0, 1)


def harmless(pictures: Tensor) -> dict[str, Tensor]:
    """Name -> the pictures with a change that people would neither prefer nor mind."""
    return {
        "contrast x 1.03": ((pictures - 0.5) * 1.03 + 0.5).clamp(0, 1),
        "floored": (pictures * 255).floor() / 255,
        "sharpened": (pictures + 0.3 * (pictures - box_blur(pictures, 1))).clamp(0, 1),
    }


def degrade(pictures: Tensor, others: Tensor, rng: torch.Generator) -> Tensor:
    """Damage each picture [B, 3, H, W] in a way that must matter: blur it, blend it with another, patch or tear it."""
    kinds = torch.randint(len(DAMAGES), (len(pictures),), generator=rng).tolist()
    rows = zip(kinds, pictures, others, strict=True)
    return torch.stack([DAMAGES[kind](picture, other, rng) for kind, picture, other in rows]).clamp(0, 1)


def blur(picture: Tensor, other: Tensor, rng: torch.Generator) -> Tensor:
    """Blur by means of squares 5 to 11 pixels wide."""
    return box_blur(picture, _whole(2, 5, rng))


def blend(picture: Tensor, other: Tensor, rng: torch.Generator) -> Tensor:
    """Mix in 30 to 60 % of the other picture."""
    return torch.lerp(picture, other, 0.3 + 0.3 * float(torch.rand((), generator=rng)))


def patch(picture: Tensor, other: Tensor, rng: torch.Generator) -> Tensor:
    """Paste two to five rectangles of the other picture, with hard or soft edges."""
    height, width = picture.shape[-2:]
    mask = picture.new_zeros(1, height, width)
    for _ in range(_whole(2, 5, rng)):
        tall, wide = (_whole(size // 5, size // 2, rng) for size in (height, width))
        top, left = _whole(0, height - tall, rng), _whole(0, width - wide, rng)
        mask[:, top : top + tall, left : left + wide] = 1
    return torch.lerp(picture, other, box_blur(mask, _whole(0, 3, rng)))


def tear(picture: Tensor, other: Tensor, rng: torch.Generator) -> Tensor:
    """Shift one side of a horizontal or vertical tear along it, by a twelfth to a third of the picture."""
    size = picture.shape[-1]
    shift, at = _whole(size // 12, size // 3, rng), _whole(size // 4, size - size // 4, rng)
    transposed, swapped, backwards = (torch.rand(3, generator=rng) < 0.5).tolist()
    picture = picture.mT if transposed else picture
    moved = picture.roll(-shift if backwards else shift, -1)
    first, second = (moved, picture) if swapped else (picture, moved)
    torn = torch.cat([first[:, :at], second[:, at:]], 1)
    return torn.mT if transposed else torn


DAMAGES = (blur, blend, patch, tear)
"""Each takes a square picture [3, H, H], another one, and an RNG."""


def box_blur(pictures: Tensor, radius: int) -> Tensor:
    """Means over squares of 2 radius + 1 pixels, for [C, H, W] or [B, C, H, W]; border pixels are repeated."""
    padded = F.pad(pictures, (radius,) * 4, mode="replicate")
    return F.avg_pool2d(padded, 2 * radius + 1, stride=1)


def _whole(low: int, high: int, rng: torch.Generator) -> int:
    """A random integer from low to high, both included."""
    return int(torch.randint(low, high + 1, (), generator=rng))
