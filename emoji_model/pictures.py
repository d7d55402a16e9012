"""Saves grids of pictures, so that people can see what a stage does."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from pathlib import Path

import torch
from PIL import Image, ImageDraw, ImageFont

from pahi_rt.pictures import to_bytes


def to_image(pictures: torch.Tensor, columns: int) -> Image.Image:
    """Arrange float pictures [N, 3, H, W] in [0, 1] in a grid, row by row, rounded (not floored) to bytes."""
    count, channels, height, width = pictures.shape
    rows = -(-count // columns)
    sheet = torch.ones(rows * columns, channels, height, width)
    sheet[:count] = pictures.detach().clamp(0, 1)
    grid = sheet.view(rows, columns, channels, height, width).permute(0, 3, 1, 4, 2)
    pixels = grid.reshape(rows * height, columns * width, channels)
    return Image.fromarray(to_bytes(pixels.numpy()))


def save_grid(pictures: torch.Tensor, columns: int, path: Path) -> None:
    """Save `to_image(pictures, columns)`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    to_image(pictures, columns).save(path)


LINES, GAP = 34, 12
"""Pixels: the height of a caption of two lines, and the space between columns."""


def captioned(captions: Sequence[str], pictures: torch.Tensor, columns: int) -> Image.Image:
    """A sheet of pictures [captions, K, 3, H, W] in [0, 1]: in each cell a caption, and its K pictures below."""
    cells = [to_image(several, len(several)) for several in pictures]
    width, height = cells[0].width + GAP, cells[0].height + LINES
    sheet = Image.new("RGB", (columns * width - GAP, -(-len(cells) // columns) * height), "white")
    pen, font = ImageDraw.Draw(sheet), ImageFont.load_default(12)
    for number, (caption, cell) in enumerate(zip(captions, cells, strict=True)):
        left, top = number % columns * width, number // columns * height
        lines = textwrap.fill(caption, max(1, int(cell.width / font.getlength("n"))))
        pen.multiline_text((left + 2, top + LINES - 2), lines, "dimgrey", font, anchor="ld", spacing=1)
        sheet.paste(cell, (left, top + LINES))
    return sheet
