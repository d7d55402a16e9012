"""Measures what a win rate does not show: whether pictures are all alike, and whether they are blurred."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pahi_rt.noise import draw_noise
from pahi_rt.scorers.clip import embed_images, load_clip, read_normalisation
from pahi_rt.scorers.preprocess import Preprocess, cover

Encoder = Callable[[Tensor], Tensor]
"""Pictures [B, 3, H, W] in [0, 1] -> features [B, F]; their Euclidean distance is how different two pictures are."""

_LUMINANCE = (0.299, 0.587, 0.114)
"""Weights of red, green and blue (ITU-R BT.601)."""
_FLAT = 1e-5
"""Mean difference of neighbouring pixels, in [0, 1], up to which a picture counts as flat: rounding gives less."""


def laplacian(pictures: Tensor) -> Tensor:
    """Second differences of each channel of pictures [B, C, H, W], which leave only the edges: [B, C, H - 2, W - 2]."""
    channels = pictures.shape[1]
    kernel = pictures.new_tensor([[0, 1, 0], [1, -4, 1], [0, 1, 0]]).expand(channels, 1, 3, 3)
    return F.conv2d(pictures, kernel, groups=channels)


def sharpness(pictures: Tensor) -> Tensor:
    """Steepness of edges relative to contrast [B], in 1/pixel, for pictures [B, 3, H, W] in [0, 1]; 0 without edges.

    It is the total of the Laplacian divided by the total difference of neighbouring pixels, where the three colours are
    one vector and its length counts. An edge between two plain colours adds its contrast to the denominator, however
    soft it is; the softer it is, the less it adds to the numerator. So the contrast cancels, and with it a change of
    tint. Crete et al. 2007 ("The blur effect") divide by the total difference, too, to make blur independent of
    contrast; the Laplacian in place of their second blur is ours. Grain raises the value as an edge does.
    """
    down, right = (_length(pictures.diff(dim=axis)).sum((1, 2)) for axis in (2, 3))
    total = down + right
    flat = total <= _FLAT * pictures[0, 0].numel()
    return torch.where(flat, 0.0, _length(laplacian(pictures)).sum((1, 2)) / total)


def edge_energy(pictures: Tensor) -> Tensor:
    """Variance of the Laplacian of the luminance [B], for pictures [B, 3, H, W] in [0, 1].

    It grows with the square of the contrast, so it compares the sharpness only of pictures of one thing in the same
    colours.
    """
    grey = (pictures * pictures.new_tensor(_LUMINANCE).view(1, 3, 1, 1)).sum(1, keepdim=True)
    return laplacian(grey).var((1, 2, 3))


def _length(colours: Tensor) -> Tensor:
    """The length of each pixel's vector of colours: [B, C, H, W] -> [B, H, W]."""
    return colours.norm(dim=1)


def pairwise_distance(features: Tensor) -> Tensor:
    """Features [S, B, F] of S >= 2 pictures for each of B prompts -> mean distance over pairs of each prompt [B]."""
    return torch.stack([F.pdist(pictures).mean() for pictures in features.float().unbind(1)])


class RandomFeatures(nn.Module):
    """How different pictures look, without a trained network: random filters at four scales.

    A learned encoder would have to be downloaded; or it would have been trained with the generator or the scorers that
    are judged here, and share their blind spots. Plain pixels would count an edge that moved by a pixel as much as
    another object. So the features are, at 64, 32, 16 and 8 pixels, the responses of 32 fixed random 5x5 filters with
    mean 0 for each colour, rectified and averaged over 4x4 neighbourhoods: they tell which kind of structure is roughly
    where. The picture at 8x8 adds the colours. Random convolutions followed by rectification and pooling are known to
    be good features (Jarrett et al. 2009; Saxe et al. 2011). Natural pictures have about equal energy in each octave,
    so the scales have about equal weight. The norm of the filters is chosen so that they weigh as much as the colours
    on pictures of the embedded generator (measured: 52 % of the squared distance).
    """

    name = "random filters at four scales"
    filters: Tensor
    sizes = (64, 32, 16, 8)
    count, width, norm = 32, 5, 2**0.5

    def __init__(self, seed: int = 0) -> None:
        super().__init__()
        # From pahi_rt.noise, so that the filters are the same on every machine and with every version of PyTorch.
        shape = (3, self.width, self.width)
        filters = torch.from_numpy(draw_noise(range(seed, seed + self.count), shape))
        filters = filters - filters.mean((2, 3), keepdim=True)
        filters = self.norm * filters / filters.flatten(1).norm(dim=1).view(-1, 1, 1, 1)
        self.register_buffer("filters", filters, persistent=False)

    def forward(self, pictures: Tensor) -> Tensor:
        """Pictures [B, 3, H, W] in [0, 1], of any size -> features [B, F]."""
        scales = [F.adaptive_avg_pool2d(pictures.float(), size) for size in self.sizes]
        parts = [scales[-1], *(self._respond(scale) for scale in scales)]
        # Divided by the root of the number of features: the squared distance is then the sum, over parts, of the mean
        # square difference.
        return torch.cat([part.flatten(1) / part[0].numel() ** 0.5 for part in parts], 1)

    def _respond(self, pictures: Tensor) -> Tensor:
        edge = self.width // 2
        padded = F.pad(pictures, (edge, edge, edge, edge), mode="replicate")
        return F.avg_pool2d(F.conv2d(padded, self.filters).abs(), 4)


class ClipFeatures(nn.Module):
    """The picture tower of a CLIP: unit vectors. Use one that is unrelated to the scorers."""

    def __init__(self, name: str, model: Any, preprocess: Preprocess) -> None:
        super().__init__()
        self.name, self.model, self.preprocess = name, model, preprocess
        self.float().eval().requires_grad_(False)

    def forward(self, pictures: Tensor) -> Tensor:
        """Pictures [B, 3, H, W] in [0, 1] -> features [B, E]."""
        return embed_images(self.model, self.preprocess(pictures))


def load_encoder(source: str | None = None) -> RandomFeatures | ClipFeatures:
    """The random filters; or, for a folder in transformers' layout or a hub id, its CLIP.

    Raises ScorerError if there is no such CLIP.
    """
    if source is None:
        return RandomFeatures()
    model, folder = load_clip(source)
    preprocess = Preprocess(model.config.vision_config.image_size, cover, **read_normalisation(folder))
    return ClipFeatures(f"CLIP of {source}", model, preprocess)
