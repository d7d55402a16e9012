"""Saves grids of pictures, so that people can see what a stage does."""

from __future__ import annotations

from pathlib import Path

import torch
from PIL import Image

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
