"""The attributes that the noise decides, and how a training target gets noise that asks for it.

A prompt leaves some attributes open: the drawing style and the background. Fixed linear functionals of unit norm read
them from the noise, so that each value is N(0, 1) under Gaussian noise. Training pairs every target with noise whose
functionals ask for exactly that target, as reflow and semi-discrete optimal transport do. So each pair of noise and
caption has one answer, and regression does not have to blur.
"""

from __future__ import annotations

import torch

CHANNELS, HEIGHT, WIDTH = 4, 16, 16
STYLE, TINT = slice(0, 3), slice(3, 5)
"""Positions of the attributes among the functionals."""
COUNT = 5
"""Number of functionals."""


def functionals() -> torch.Tensor:
    """Orthonormal rows [COUNT, C*h*w]: Haar patterns on a checkerboard.

    On a checkerboard the latents of drawings cancel: they add 0.3 to the value of a functional, where they would add 6
    to a plain mean. So the second step, which sees the noise through the drawing of the first, can still read the
    functionals. Strided convolutions can read them too, because they meet squares of only one colour.
    """
    ones = torch.ones(HEIGHT, WIDTH)
    top = torch.where(torch.arange(HEIGHT) < HEIGHT // 2, 1.0, -1.0)[:, None].expand(HEIGHT, WIDTH)
    patterns = ((0, ones), (1, ones), (2, ones), (3, ones), (3, top))
    rows = torch.zeros(COUNT, CHANNELS, HEIGHT, WIDTH)
    for row, (channel, pattern) in zip(rows, patterns, strict=True):
        row[channel] = pattern * checkerboard(HEIGHT, WIDTH)
    return rows.flatten(1) / (HEIGHT * WIDTH) ** 0.5


def checkerboard(height: int, width: int) -> torch.Tensor:
    """A checkerboard [height, width] of 1 and -1 that starts with 1."""
    return (1.0 - 2.0 * (torch.arange(height) % 2))[:, None] * (1.0 - 2.0 * (torch.arange(width) % 2))


def read(noise: torch.Tensor) -> torch.Tensor:
    """Values of the functionals, [B, COUNT], for noise [B, C, h, w]."""
    return noise.flatten(1) @ functionals().T


def write(noise: torch.Tensor, values: torch.Tensor) -> torch.Tensor:
    """The same noise with its functionals set to `values` [B, COUNT]. Everything orthogonal to them is unchanged."""
    change = (values - read(noise)) @ functionals()
    return noise + change.view_as(noise)


def style_of(values: torch.Tensor) -> torch.Tensor:
    """Index of the drawing style, [B]."""
    return values[:, STYLE].argmax(1)


def with_style(values: torch.Tensor, style: torch.Tensor) -> torch.Tensor:
    """Swap the largest style value to the position `style` [B]. Values stay Gaussian if styles are drawn evenly."""
    values = values.clone()
    rows = torch.arange(len(values))
    largest = style_of(values)
    values[rows, largest], values[rows, style] = values[rows, style], values[rows, largest]
    return values


def background(values: torch.Tensor) -> torch.Tensor:
    """Pastel colour [B, 3] in [0, 1]: near white where both tint values are near 0, more saturated away from it."""
    warm, green = torch.tanh(0.8 * values[:, TINT]).unbind(1)
    offsets = torch.stack([warm, -0.5 * warm + 0.866 * green, -0.5 * warm - 0.866 * green], 1)
    return 0.97 + 0.16 * (offsets - offsets.max(1, keepdim=True).values)
