"""A reward that is easy to hack: how red a picture is. It shows what a prior does to raise a single score."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from pahi_rt.errors import ScorerError
from pahi_rt.scorers.preprocess import check_inputs


class Redness(nn.Module):
    """Mean of R - (G + B) / 2 over a picture, whatever the prompt: -1 is cyan, 0 any grey, 1 red."""

    name = "redness"
    unit = "mean R - (G+B)/2"
    # Not fitted to any preferences. With 10, a difference of 0.1 is as clear a preference as one of 0.01 in PickScore.
    scale = 10.0
    tokenizer, max_tokens, size, unported = None, 0, None, ()

    def score(self, images: Tensor, prompts: Sequence[str]) -> Tensor:
        """Pictures [B, 3, H, W] in [0, 1] -> scores [B] in [-1, 1]. Raises ScorerError for other shapes."""
        check_inputs(images, prompts)
        return self.score_ids(images)

    def score_ids(self, images: Tensor, input_ids: Tensor | None = None) -> Tensor:
        """The same; there are no prompts to read."""
        red, green, blue = images.float().mean(dim=(2, 3)).unbind(dim=1)
        return red - (green + blue) / 2


def load_redness(source: str | None = None) -> Redness:
    """Make the redness scorer. Raises ScorerError if a `source` is given: there is nothing to load."""
    if source is not None:
        raise ScorerError(f"redness is a formula, so there is nothing to load from {source}", fix="write redness alone")
    return Redness().eval()
