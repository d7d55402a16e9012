"""What each cell of a picture shows, as five numbers: thing, part of it, colour, background, style.

The text encoder holds a sketch of the picture in GRID x GRID cells (text.py). Where things stand in a scene is fixed
(painting.ROWS), and all edges of half-sized things are edges of cells: so a cell shows one part of one thing.
"""

from __future__ import annotations

import torch

from emoji_model.captions import Caption, Captions
from emoji_model.painting import ROWS, WHOLE
from emoji_model.scenes import COLOURS, WORN, Scene, Thing
from emoji_model.sources import STYLES
from emoji_model.text import CELLS, GRID

PIXELS = WHOLE[2] // GRID
"""The side of a cell, in pixels."""
HALVED = CELLS
"""The first part of a thing at half size. Before it are the parts of a whole thing, after it those of creatures that
wear something, for each of WORN."""
DRESSED = HALVED + (GRID // 2) ** 2
NONE = -1
"""A cell that shows no thing; a colour, a background or a style that the caption leaves open."""


class Codes:
    """Numbers the things that captions may mean: each concept, and each set of meanings of an ambiguous phrase."""

    def __init__(self, captions: Captions) -> None:
        self._concepts = len(captions.concepts)
        ambiguous = sorted({meanings for meanings in captions.meanings.values() if len(meanings) > 1})
        self._ambiguous = {meanings: self._concepts + number for number, meanings in enumerate(ambiguous)}
        parts = DRESSED + CELLS * len(WORN)
        self.sizes = (self._concepts + len(ambiguous), parts, len(COLOURS), len(COLOURS), len(STYLES))
        """How many there are of each of the five."""

    def of_caption(self, caption: Caption, style: int | None) -> torch.Tensor:
        """The code of a plain caption: int64 [CELLS, 5]."""
        meanings = caption.meanings
        number = meanings[0] if len(meanings) == 1 else self._ambiguous[meanings]
        return self.of_scene(Scene((Thing(number),), style=style))

    def of_scene(self, scene: Scene) -> torch.Tensor:
        """The code of a scene: int64 [CELLS, 5]."""
        code = torch.full((GRID, GRID, 5), NONE)
        code[..., 1] = 0
        code[..., 3] = _colour(scene.background)
        code[..., 4] = NONE if scene.style is None else scene.style
        whole = DRESSED + CELLS * list(WORN).index(scene.worn) if scene.worn else 0
        for thing, (left, top, side) in zip(scene.shown, ROWS[len(scene.shown)], strict=True):
            first, count = (HALVED if side < WHOLE[2] else whole), side // PIXELS
            place = code[top // PIXELS :, left // PIXELS :][:count, :count]
            place[..., 0], place[..., 2] = thing.concept, _colour(thing.colour)
            place[..., 1] = first + torch.arange(count * count).view(count, count)
        return code.flatten(0, 1)


def _colour(word: str | None) -> int:
    return NONE if word is None else list(COLOURS).index(word)
