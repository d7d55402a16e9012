"""What is done to pictures when the emoji scorers learn: what must not matter to them, and what must.

Places, sizes and widths are all drawn: a scorer would learn a seam that is always in one row, and not the damage.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F


def jitter(pictures: Tensor, generator: torch.Generator) -> Tensor:
    """What must not matter: a little contrast, brightness, softness or sharpness, noise; each picture for itself."""

    def uniform(low: float, high: float) -> Tensor:
        return low + (high - low) * torch.rand(len(pictures), 1, 1, 1, generator=generator)

    # Drawings are sharper than what is generated: a smaller range (0.4) left a liking for sharpened pictures.
    pictures = pictures + uniform(-0.8, 0.8) * (pictures - box_blur(pictures, 1))
    pictures = (pictures - 0.5) * uniform(0.9, 1.1) + 0.5 + uniform(-0.05, 0.05)
    noise = torch.randn(pictures.shape, generator=generator) * uniform(0, 0.02)
    return (pictures + noise).clamp(0, 1)


def harmless(pictures: Tensor) -> dict[str, Tensor]:
    """Changes that nobody would prefer or mind."""
    return {
        "contrast x 1.03": ((pictures - 0.5) * 1.03 + 0.5).clamp(0, 1),
        "floored": (pictures * 255).floor() / 255,
        "sharpened": (pictures + 0.3 * (pictures - box_blur(pictures, 1))).clamp(0, 1),
    }


def degrade(pictures: Tensor, others: Tensor, generator: torch.Generator) -> Tensor:
    """What must matter: each picture [B, 3, H, W] blurred, blended with another, patched from it, or torn in two."""
    kinds = torch.randint(len(DAMAGES), (len(pictures),), generator=generator).tolist()
    rows = zip(kinds, pictures, others, strict=True)
    return torch.stack([DAMAGES[kind](picture, other, generator) for kind, picture, other in rows]).clamp(0, 1)


def blur(picture: Tensor, other: Tensor, generator: torch.Generator) -> Tensor:
    """Means of squares 5 to 11 pixels wide."""
    return box_blur(picture, _whole(2, 5, generator))


def blend(picture: Tensor, other: Tensor, generator: torch.Generator) -> Tensor:
    return torch.lerp(picture, other, 0.3 + 0.3 * float(torch.rand((), generator=generator)))


def patch(picture: Tensor, other: Tensor, generator: torch.Generator) -> Tensor:
    """Two to five rectangles of the other picture, with hard edges or soft ones."""
    height, width = picture.shape[-2:]
    mask = picture.new_zeros(1, height, width)
    for _ in range(_whole(2, 5, generator)):
        tall, wide = (_whole(size // 5, size // 2, generator) for size in (height, width))
        top, left = _whole(0, height - tall, generator), _whole(0, width - wide, generator)
        mask[:, top : top + tall, left : left + wide] = 1
    return torch.lerp(picture, other, box_blur(mask, _whole(0, 3, generator)))


def tear(picture: Tensor, other: Tensor, generator: torch.Generator) -> Tensor:
    """Upper or lower half, left or right half moved along the tear by a twelfth to a third of the picture."""
    size = picture.shape[-1]
    shift, at = _whole(size // 12, size // 3, generator), _whole(size // 4, size - size // 4, generator)
    transposed, swapped, backwards = (torch.rand(3, generator=generator) < 0.5).tolist()
    picture = picture.mT if transposed else picture
    moved = picture.roll(-shift if backwards else shift, -1)
    first, second = (moved, picture) if swapped else (picture, moved)
    torn = torch.cat([first[:, :at], second[:, at:]], 1)
    return torn.mT if transposed else torn


DAMAGES = (blur, blend, patch, tear)
"""Each takes a square picture [3, H, H], another one, and random numbers."""


def box_blur(pictures: Tensor, radius: int) -> Tensor:
    """Means over squares of 2 radius + 1 pixels, of [C, H, W] or [B, C, H, W]; the edge is continued."""
    padded = F.pad(pictures, (radius,) * 4, mode="replicate")
    return F.avg_pool2d(padded, 2 * radius + 1, stride=1)


def _whole(low: int, high: int, generator: torch.Generator) -> int:
    """One of low, ..., high."""
    return int(torch.randint(low, high + 1, (), generator=generator))
