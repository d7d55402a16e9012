"""Rasterises SVG drawings, and puts them on tinted backgrounds."""

from __future__ import annotations

import io
from collections.abc import Sequence

import numpy as np
import resvg_py
import torch
from PIL import Image

from emoji_model.sources import STYLES, Concept

SIZE = 128
MARGIN = 0.03
"""Free border on each side, as a share of the picture."""


def rasterise(svg: str) -> np.ndarray:
    """Rasterise an SVG document: uint8 [SIZE, SIZE, 4], RGBA."""
    inner = svg.replace(
        "<svg ", f'<svg x="{MARGIN}" y="{MARGIN}" width="{1 - 2 * MARGIN}" height="{1 - 2 * MARGIN}" ', 1
    )
    document = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 1 1">{inner}</svg>'
    png = resvg_py.svg_to_bytes(svg_string=document, width=SIZE, height=SIZE, skip_system_fonts=True)
    return np.asarray(Image.open(io.BytesIO(bytes(png))).convert("RGBA"))


def render_all(concepts: Sequence[Concept]) -> torch.Tensor:
    """Rasterise every concept in every style: uint8 [concepts, styles, 4, SIZE, SIZE]."""
    pictures = [[rasterise(concept.svg[style]) for style in STYLES] for concept in concepts]
    return torch.from_numpy(np.array(pictures)).permute(0, 1, 4, 2, 3).contiguous()


def composite(rgba: torch.Tensor, background: torch.Tensor) -> torch.Tensor:
    """Lay pictures over plain colours.

    Args:
        rgba: uint8 [B, 4, H, W], straight alpha.
        background: float [B, 3] in [0, 1].

    Returns:
        float32 [B, 3, H, W] in [0, 1].
    """
    values = rgba.float() / 255
    alpha = values[:, 3:]
    return values[:, :3] * alpha + background[:, :, None, None] * (1 - alpha)
