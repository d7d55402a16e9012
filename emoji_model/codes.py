"""What each cell of a picture shows, as five numbers: thing, part of it, colour, background, style.

The text encoder holds a sketch of the picture in GRID x GRID cells (text.py). Where things stand in a scene is fixed
(painting.ROWS), and all edges of half-sized things are edges of cells: so a cell shows one part of one thing.
"""

from __future__ import annotations

import torch

from emoji_model.painting import ROWS, WHOLE
from emoji_model.scenes import COLOURS, WORN, Scene
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


def sizes(concepts: int) -> tuple[int, ...]:
    """How many there are of each of the five, for a model of so many concepts."""
    return concepts, DRESSED + CELLS * len(WORN), len(COLOURS), len(COLOURS), len(STYLES)


def code(scene: Scene) -> torch.Tensor:
    """The code of a scene: int64 [CELLS, 5]."""
    cells = torch.full((GRID, GRID, 5), NONE)
    cells[..., 1] = 0
    cells[..., 3] = _colour(scene.background)
    cells[..., 4] = NONE if scene.style is None else scene.style
    whole = DRESSED + CELLS * list(WORN).index(scene.worn) if scene.worn else 0
    for thing, (left, top, side) in zip(scene.shown, ROWS[len(scene.shown)], strict=True):
        first, count = (HALVED if side < WHOLE[2] else whole), side // PIXELS
        place = cells[top // PIXELS :, left // PIXELS :][:count, :count]
        place[..., 0], place[..., 2] = thing.concept, _colour(thing.colour)
        place[..., 1] = first + torch.arange(count * count).view(count, count)
    return cells.flatten(0, 1)


def _colour(word: str | None) -> int:
    return NONE if word is None else list(COLOURS).index(word)
