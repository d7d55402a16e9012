"""A scorer as a module whose forward has exactly the inputs and the output of its graph.

Pictures have one size, so that the resizing is two constant matrices, one for each axis. They give what PyTorch's
antialiased bicubic filter gives, to the rounding of float32, in any runtime. ONNX's Resize has an antialiased cubic
filter as well, but not every runtime has it; tests/export/test_scorer_graph.py says how far ONNX Runtime's is from it.
"""

from __future__ import annotations

from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pahi_rt.manifest import IDS, IMAGE
from pahi_rt.scorers import Portable
from pahi_rt.scorers.preprocess import Preprocess, resize


class ScorerGraph(nn.Module):
    """A scorer of pictures of one size, as uint8. The scorer's preprocessing is replaced, in place."""

    def __init__(self, scorer: Portable, height: int, width: int) -> None:
        super().__init__()
        self.scorer = cast(Portable, fix_size(cast(nn.Module, scorer), height, width))
        self._size, self._tokens = (height, width), scorer.max_tokens if scorer.tokenizer is not None else 0

    def forward(self, image: Tensor, input_ids: Tensor | None = None) -> Tensor:
        """Pictures uint8 [B, H, W, 3], and token ids int64 [B, T] if the scorer reads prompts -> scores [B]."""
        return self.scorer.score_ids(image.permute(0, 3, 1, 2).float() / 255, cast(Tensor, input_ids)).float()

    def example_inputs(self, batch: int = 2) -> dict[str, Tensor]:
        """Inputs with the right names, types and shapes, in the order of `forward`."""
        pictures = torch.zeros(batch, *self._size, 3, dtype=torch.uint8)
        if not self._tokens:
            return {IMAGE: pictures}
        return {IMAGE: pictures, IDS: torch.ones(batch, self._tokens, dtype=torch.int64)}


class FixedPreprocess(nn.Module):
    """What a `Preprocess` does to pictures of one size, as products of matrices."""

    rows: Tensor
    columns: Tensor
    mean: Tensor
    std: Tensor

    def __init__(self, preprocess: Preprocess, height: int, width: int) -> None:
        super().__init__()
        layout, size = preprocess.fit(height, width, preprocess.size), preprocess.size
        self.is_clamped = layout.is_clamped
        self.register_buffer("rows", resizing(height, layout.height, layout.top, size), persistent=False)
        self.register_buffer("columns", resizing(width, layout.width, layout.left, size).T, persistent=False)
        self.register_buffer("mean", preprocess.mean, persistent=False)
        self.register_buffer("std", preprocess.std, persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        return (self._clamp(self.rows @ self._clamp(images @ self.columns)) - self.mean) / self.std

    def _clamp(self, images: Tensor) -> Tensor:
        return images.clamp(0, 1) if self.is_clamped else images


def resizing(before: int, after: int, start: int, size: int) -> Tensor:
    """The matrix [size, before] that resizes an axis from `before` to `after` pixels, the first of them at `start`."""
    whole = resize(torch.eye(before)[None, None], after, before)[0, 0]
    return F.pad(whole, (0, 0, start, size - start - after))  # a negative number cuts


def fix_size(module: nn.Module, height: int, width: int) -> nn.Module:
    """Replace every `Preprocess` inside `module` by a fixed one. Returns the module."""
    for parent in list(module.modules()):
        for name, child in parent.named_children():
            if isinstance(child, Preprocess):
                setattr(parent, name, FixedPreprocess(child, height, width))
    return module
