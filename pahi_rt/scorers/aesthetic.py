"""LAION's aesthetic predictor: a rating of a picture from 1 to 10, without its prompt.

A linear head on the picture embedding of OpenAI's CLIP ViT-L/14, trained on SAC, LAION-logos and AVA ratings
(christophschuhmann/improved-aesthetic-predictor, sac+logos+ava1-l14-linearMSE.pth).
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from pahi_rt.errors import ScorerError
from pahi_rt.models.folders import locate
from pahi_rt.scorers.checkpoints import check_layout, check_nothing_else, read_weights, under, weights_file
from pahi_rt.scorers.clip import CLIPSCORE, embed_images, load_clip
from pahi_rt.scorers.head import load_head
from pahi_rt.scorers.preprocess import Preprocess, check_inputs, cover

HEAD = "trl-lib/ddpo-aesthetic-predictor"
HEAD_FILES = ("sac+logos+ava1-l14-linearMSE.pth", "aesthetic-model.pth")
"""File name of the head in the authors' repository, and on the hub."""
CLIP_FOLDER = "clip-vit-large-patch14"
"""Folder beside the head that may hold the CLIP."""

_FIX = f"give the file {HEAD_FILES[0]} of improved-aesthetic-predictor"


class AestheticScorer(nn.Module):
    """score = head(unit embedding of the picture); prompts are not read."""

    name = "aesthetic"
    unit = "rating, 1 to 10"
    # The head was trained on ratings, not on preferences: one point of rating counts as one logit.
    scale = 1.0
    tokenizer, max_tokens, size, unported = None, 0, None, ()

    def __init__(self, clip: Any, head: nn.Sequential) -> None:
        super().__init__()
        self.clip = clip
        self.head = head
        # The head was trained with the `clip` package, which crops pictures with torchvision.
        self.preprocess = Preprocess(clip.config.vision_config.image_size, partial(cover, round_offset=round))
        self.float().eval().requires_grad_(False)

    def score(self, images: Tensor, prompts: Sequence[str]) -> Tensor:
        """Pictures [B, 3, H, W] in [0, 1] -> ratings [B]. Raises ScorerError for other shapes."""
        check_inputs(images, prompts)
        return self.score_ids(images)

    def score_ids(self, images: Tensor, input_ids: Tensor | None = None) -> Tensor:
        """The same; there are no prompts to read."""
        ratings: Tensor = self.head(embed_images(self.clip, self.preprocess(images)))
        return ratings.float().squeeze(-1)


def load_aesthetic(source: str | None = None) -> AestheticScorer:
    """Load the predictor; `source` is a file, a folder or a hub id with the head, by default `HEAD`.

    Its CLIP comes from the folder clip-vit-large-patch14 beside the head, or else from OpenAI's repository on the hub.
    Raises ScorerError if either is missing or of another architecture.
    """
    path = weights_file(locate(source or HEAD, HEAD_FILES, partial(ScorerError, fix=_FIX)), HEAD_FILES)
    if "relu" in path.name.lower():
        # Its weights have the same names and shapes, so only the file name tells.
        raise ScorerError(f"{path.name} is the variant with activations, which is not supported", fix=_FIX)
    weights = read_weights(path)
    check_layout(weights, ["layers.0.weight"], path, _FIX)
    check_nothing_else(weights, ("layers.",), path, _FIX)
    clip = _load_vision(path.parent)
    return AestheticScorer(clip, load_head(under(weights, "layers."), clip.config.projection_dim, path, _FIX))


def _load_vision(folder: Path) -> Any:
    beside = folder / CLIP_FOLDER
    fix = f"put a folder {CLIP_FOLDER} with the files of {CLIPSCORE} into {folder}"
    clip, _ = load_clip(str(beside) if beside.is_dir() else CLIPSCORE, fix)
    del clip.text_model, clip.text_projection
    return clip
