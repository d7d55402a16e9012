"""Paints scenes from drawings: recoloured, made smaller, side by side, under hats, on plain backgrounds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch.nn import functional as F

from emoji_model.render import SIZE
from emoji_model.scenes import COLOURS, WORN, Scene, Thing
from emoji_model.sources import Concept

Box = tuple[int, int, int]
"""Left edge, top edge and side of a square, in pixels."""
WHOLE: Box = (0, 0, SIZE)
HALF = SIZE // 2
ROWS: dict[int, tuple[Box, ...]] = {
    1: (WHOLE,),
    2: ((0, HALF // 2, HALF), (HALF, HALF // 2, HALF)),
    3: ((HALF // 2, 0, HALF), (0, HALF, HALF), (HALF, HALF, HALF)),
}
"""Number of things -> where each stands. All edges are multiples of 8, the size of a latent's pixel."""
UNDER_HAT: Box = (16, 32, 96)
HAT: Box = (40, 0, 48)
BRIM = 6
"""Pixels by which a hat overlaps the head."""
GLASSES: Box = (24, 25, 80)


def paint(scene: Scene, drawings: torch.Tensor, worn: Mapping[str, torch.Tensor], ground: torch.Tensor) -> torch.Tensor:
    """Paint a scene in every style.

    Args:
        drawings: uint8 [concepts, styles, 4, SIZE, SIZE], RGBA with straight alpha.
        worn: key of WORN -> uint8 [styles, 4, SIZE, SIZE].
        ground: the background where the scene does not name it, [3] in [0, 1].

    Returns:
        float32 [styles, 3, SIZE, SIZE] in [0, 1].
    """
    ground = colour_of(scene.background) if scene.background else ground
    picture = ground[None, :, None, None].expand(drawings.shape[1], 3, SIZE, SIZE)
    if scene.worn:
        dressed = dress(layer(scene.things[0], drawings), premultiplied(worn[scene.worn]), scene.worn)
        return over(over(picture, dressed[0]), dressed[1])
    for thing, box in zip(scene.shown, ROWS[len(scene.shown)], strict=True):
        picture = over(picture, put(layer(thing, drawings), box))
    return picture


def dress(creature: torch.Tensor, worn: torch.Tensor, name: str) -> tuple[torch.Tensor, torch.Tensor]:
    """A creature and what it wears, both premultiplied RGBA [styles, 4, SIZE, SIZE], each in its place."""
    if name == "sunglasses":
        return creature, put(worn, GLASSES)
    creature, worn = put(creature, UNDER_HAT), put(worn, HAT)
    # Down to the head, but not out of the picture.
    shifts = [
        max(int(_rows(head)[0] - _rows(hat)[-1]) + BRIM, -int(_rows(hat)[0]))
        for head, hat in zip(creature, worn, strict=True)
    ]
    return creature, torch.stack([hat.roll(shift, 1) for hat, shift in zip(worn, shifts, strict=True)])


def _rows(picture: torch.Tensor) -> torch.Tensor:
    """Numbers of the rows of a premultiplied picture [4, SIZE, SIZE] that show something in the middle third."""
    return (picture[3, :, SIZE // 3 : -SIZE // 3].amax(1) > 0.5).nonzero().flatten()


def layer(thing: Thing, drawings: torch.Tensor) -> torch.Tensor:
    """A thing in every style, premultiplied RGBA [styles, 4, SIZE, SIZE], in the colour that it is asked for in."""
    plain = premultiplied(drawings[thing.concept])
    return recolour(plain, colour_of(thing.colour)) if thing.colour else plain


def premultiplied(rgba: torch.Tensor) -> torch.Tensor:
    """Uint8 RGBA [..., 4, H, W] with straight alpha -> float, colours multiplied by alpha."""
    values = rgba.float() / 255
    return torch.cat([values[..., :3, :, :] * values[..., 3:, :, :], values[..., 3:, :, :]], -3)


def recolour(picture: torch.Tensor, colour: torch.Tensor) -> torch.Tensor:
    """Premultiplied RGBA [B, 4, H, W] in shades of one colour [3]: from black over the colour to white, by luminance.

    What has the drawing's mean luminance gets the colour itself.
    """
    alpha = picture[:, 3:]
    luminance = (picture[:, :3] * picture.new_tensor((0.299, 0.587, 0.114))[:, None, None]).sum(1, keepdim=True)
    mean = luminance.sum((1, 2, 3), keepdim=True) / alpha.sum((1, 2, 3), keepdim=True).clamp(min=1)
    light, pivot = luminance / alpha.clamp(min=1 / 255), mean.clamp(0.15, 0.9)
    dark = colour[:, None, None] * (light / pivot).clamp(max=1)
    bright = ((light - pivot) / (1 - pivot)).clamp(0, 1)
    return torch.cat([(dark + (1 - dark) * bright) * alpha, alpha], 1)


def put(picture: torch.Tensor, box: Box) -> torch.Tensor:
    """A premultiplied picture [B, 4, SIZE, SIZE], resized to `box` on an empty one; what stands out is cut off."""
    left, top, side = box
    if box == WHOLE:
        return picture
    small = F.interpolate(picture, size=(side, side), mode="bilinear", antialias=True)
    return F.pad(small, (left, SIZE - left - side, top, SIZE - top - side))


def over(picture: torch.Tensor, top: torch.Tensor) -> torch.Tensor:
    """Lay premultiplied RGBA [B, 4, H, W] over a picture [B, 3, H, W]."""
    return top[:, :3] + picture * (1 - top[:, 3:])


def colour_of(word: str) -> torch.Tensor:
    """RGB [3] in [0, 1] of a colour word."""
    return torch.tensor(COLOURS[word]) / 255


def accessories(concepts: Sequence[Concept], drawings: torch.Tensor) -> dict[str, torch.Tensor]:
    """Key of WORN -> its drawings, uint8 [styles, 4, SIZE, SIZE]; `concepts` are the rows of `drawings`."""
    emoji = [concept.emoji for concept in concepts]
    return {name: drawings[emoji.index(code)] for name, code in WORN.items()}
