"""The regression head that the aesthetic predictor and ImageReward share."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from torch import Tensor, nn

from pahi_rt.scorers.checkpoints import fill

WIDTHS = (1024, 128, 64, 16, 1)


def linear_head(width: int) -> nn.Sequential:
    """[B, width] -> 1024 -> 128 -> 64 -> 16 -> [B, 1], without activations between the layers.

    The published modules have a dropout after each of the first three layers. It does nothing here, but it counts in
    the names of the weights: 0, 2, 4, 6, 7.
    """
    layers: list[nn.Module] = []
    for position, (before, after) in enumerate(zip((width, *WIDTHS), WIDTHS, strict=False)):
        layers.append(nn.Linear(before, after))
        if position < 3:
            layers.append(nn.Identity())
    return nn.Sequential(*layers)


def load_head(weights: Mapping[str, Tensor], width: int, source: Path, fix: str) -> nn.Sequential:
    """Build the head from `weights` (0.weight and so on). Raises ScorerError with `fix` if they do not fit."""
    head = linear_head(width)
    fill(head, weights, source, fix)
    return head
