"""Two small preference scorers for the emoji generator, in the roles of PickScore and ImageReward.

    DualEncoder      as PickScore: cosine of the embeddings of a picture and a prompt, times a learned scale
    CrossEncoder     as ImageReward: the prompt modulates the picture's features, and a head gives a reward

They share neither weights, nor the order of data, nor an architecture beyond 3x3 convolutions. So if only one of them
rewards something, it is a shortcut of that one. preferences.py trains them.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import CLIPTokenizer

from emoji_model.published import BUNDLE, PUBLISHED
from emoji_model.text import tokens
from emoji_model.tokenizer import load as load_tokenizer
from pahi_rt.errors import PahiError, ScorerError
from pahi_rt.files import writing_whole
from pahi_rt.scorers.checkpoints import fill, read_weights
from pahi_rt.scorers.preprocess import check_inputs

TOKENIZER = PUBLISHED / "tokenizer"
"""The generator's tokenizer, which both scorers use; each has its own embeddings."""
HOME = BUNDLE / "scorers"
"""The embedded bundle, whose graphs of the scorers read their weights from these very files."""
IMAGE_SIZE = 128


def image_encoder(widths: Sequence[int]) -> nn.Sequential:
    """Pictures [B, 3, 128, 128] in [-1, 1] -> features [B, widths[-1], h, h], h = 128 / 2**n after n stages."""
    layers: list[nn.Module] = []
    for narrow, wide in zip((3, *widths), widths, strict=False):
        layers += [nn.Conv2d(narrow, wide, 4, stride=2, padding=1), nn.SiLU()]
        layers += [nn.Conv2d(wide, wide, 3, padding=1), nn.GroupNorm(8, wide), nn.SiLU()]
    return nn.Sequential(*layers)


def pool(features: Tensor) -> Tensor:
    """Features [B, C, h, w] -> [B, 2 C]: the mean tells what is shown, the maximum where something is wrong."""
    return torch.cat([features.mean((2, 3)), features.amax((2, 3))], 1)


class Network(nn.Module):
    """Base of both scorers: `look` at a picture once, then `judge` it under any number of prompts."""

    unit: str
    image: nn.Sequential
    width: int
    """Channels of the features from `look`."""

    @property
    def scale(self) -> float:
        """Factor from a difference of scores to the logit of a preference."""
        raise NotImplementedError

    def logits(self, difference: Tensor) -> Tensor:
        """A difference of scores -> the logit of the preference, with gradient."""
        raise NotImplementedError

    def look(self, images: Tensor) -> Tensor:
        """Pictures [B, 3, 128, 128] in [0, 1] -> features [B, width, 4, 4]."""
        features: Tensor = self.image(images * 2 - 1)
        return features

    def judge(self, seen: Tensor, input_ids: Tensor) -> Tensor:
        """Features `seen` from `look`, and token ids [B, T] -> scores [B]."""
        raise NotImplementedError

    def forward(self, images: Tensor, input_ids: Tensor) -> Tensor:
        """Pictures [B, 3, 128, 128] in [0, 1] and token ids [B, T] -> scores [B]."""
        return self.judge(self.look(images), input_ids)


class DualEncoder(Network):
    """In the role of PickScore: score = cosine in [-1, 1]; scale = exp(logit_scale)."""

    unit, width = "cosine", 160

    def __init__(self, tokenizer: CLIPTokenizer) -> None:
        super().__init__()
        self.image = image_encoder((24, 48, 96, 128, self.width))
        self.image_head = nn.Linear(2 * self.width, 128)
        self.words = nn.Embedding(len(tokenizer), 128, padding_idx=0)
        self.text_head = nn.Sequential(nn.Linear(128, 256), nn.SiLU(), nn.Linear(256, 128))
        self.logit_scale = nn.Parameter(torch.tensor(2.3))

    @property
    def scale(self) -> float:
        return float(self.logit_scale.detach().exp())

    def logits(self, difference: Tensor) -> Tensor:
        return difference * self.logit_scale.exp()

    def judge(self, seen: Tensor, input_ids: Tensor) -> Tensor:
        # A graph has no bag of embeddings.
        is_word = (input_ids != 0).float()
        mean = (self.words(input_ids) * is_word[..., None]).sum(1) / is_word.sum(1, keepdim=True).clamp(min=1)
        picture, text = self.image_head(pool(seen)), self.text_head(mean)
        return F.cosine_similarity(picture, text)


class CrossEncoder(Network):
    """In the role of ImageReward: a reward, in standard deviations of the rewards of generated pictures.

    The prompt scales and shifts the picture's features (FiLM, Perez et al. 2018). Cross-attention learned a third as
    fast: a softmax over positions of the picture tells where something matches best, but not whether it does. The head
    also reads the features without the prompt, because a flaw is a flaw under any prompt.
    """

    unit, width = "standard deviations", 128
    mean: Tensor
    std: Tensor

    def __init__(self, tokenizer: CLIPTokenizer) -> None:
        super().__init__()
        width = self.width
        self.image = image_encoder((24, 48, 96, 128, width))
        self.words = nn.Embedding(len(tokenizer), width, padding_idx=0)
        self.positions = nn.Parameter(torch.randn(tokenizer.model_max_length, width) * 0.02)
        self.text = nn.TransformerEncoderLayer(
            width, 4, 2 * width, dropout=0.0, activation="gelu", batch_first=True, norm_first=True
        )
        self.film = nn.Linear(width, 2 * width)
        self.mix = nn.Sequential(nn.Conv2d(width, width, 1), nn.SiLU())
        self.head = nn.Sequential(nn.Linear(4 * width, 64), nn.SiLU(), nn.Linear(64, 1))
        self.register_buffer("mean", torch.zeros(()))
        self.register_buffer("std", torch.ones(()))

    @property
    def scale(self) -> float:
        return float(self.std)

    def logits(self, difference: Tensor) -> Tensor:
        return difference * self.std

    def judge(self, seen: Tensor, input_ids: Tensor) -> Tensor:
        # The first token is the same for all prompts; its state collects what the others say.
        text = self.text(self.words(input_ids) + self.positions)[:, 0]
        scale, shift = self.film(text)[:, :, None, None].chunk(2, 1)
        mixed = self.mix(seen * (1 + scale) + shift)
        reward = self.head(torch.cat([pool(mixed), pool(seen)], 1)).squeeze(-1)
        return (reward - self.mean) / self.std


KINDS: dict[str, type[DualEncoder | CrossEncoder]] = {"emoji-a": DualEncoder, "emoji-b": CrossEncoder}


class EmojiScorer(nn.Module):
    """A frozen network with its tokenizer: a Scorer of `pahi_rt.scorers`, and Portable."""

    size = (IMAGE_SIZE, IMAGE_SIZE)
    unported: tuple[str, ...] = ()

    def __init__(self, name: str, network: Network, tokenizer: CLIPTokenizer) -> None:
        super().__init__()
        self.name, self.unit, self.scale = name, network.unit, network.scale
        self.network, self.tokenizer = network.eval().requires_grad_(False), tokenizer
        self.max_tokens: int = tokenizer.model_max_length

    def score(self, images: Tensor, prompts: Sequence[str]) -> Tensor:
        """Pictures [B, 3, 128, 128] in [0, 1] and B prompts -> scores [B]. Raises PahiError for other shapes."""
        check_inputs(images, prompts)
        if images.shape[-2:] != (IMAGE_SIZE, IMAGE_SIZE):
            what = f"the scorer {self.name} reads {IMAGE_SIZE}x{IMAGE_SIZE} pictures, not {tuple(images.shape[-2:])}"
            raise PahiError(what, fix="use it with the emoji generator, or another scorer with this one")
        ids = tokens(self.tokenizer, list(prompts)).to(images.device)
        return self.score_ids(images, ids)

    def score_ids(self, images: Tensor, input_ids: Tensor) -> Tensor:
        """Pictures [B, 3, 128, 128] in [0, 1] and token ids int64 [B, max_tokens] -> scores [B]."""
        scores: Tensor = self.network(images, input_ids)
        return scores


def save(network: nn.Module, path: Path, report: dict[str, Any]) -> None:
    """Write `network` as float16 safetensors, `report` in the metadata. A kill leaves the old file or the new one."""
    weights = {key: value.half().contiguous() for key, value in network.state_dict().items()}
    with writing_whole(path) as new:
        save_file(weights, new, metadata={"measured": json.dumps(report)})


def measured(path: Path) -> dict[str, Any]:
    """Read the report that `save` wrote into a scorer's file."""
    with safe_open(path, "pt") as file:
        report: dict[str, Any] = json.loads(file.metadata()["measured"])
    return report


def load(name: str, source: str | Path | None = None) -> EmojiScorer:
    """Load the scorer `emoji-a` or `emoji-b` from `source`, by default the published one.

    Its tokenizer is that of the working folder that `source` lies in, or the published one. Raises ScorerError if the
    file is missing, or is not that scorer.
    """
    path = Path(source) if source else HOME / f"{name}.safetensors"
    tokenizer = load_tokenizer(_tokenizer_for(path))
    network = KINDS[name](tokenizer)
    fix = "python -m emoji_model scorers"
    if not path.is_file():
        raise ScorerError(f"there is no scorer at {path}", fix=fix)
    # float16 becomes float32 as weights are copied into the network.
    fill(network, read_weights(path), path, fix)
    return EmojiScorer(name, network, tokenizer)


def _tokenizer_for(path: Path) -> Path:
    """The stage `scorers` leaves weights in a folder beside the tokenizer that they belong to."""
    made = path.absolute().parent.with_name("tokenizer")
    return made if made.is_dir() else TOKENIZER


load_emoji_a = partial(load, "emoji-a")
load_emoji_b = partial(load, "emoji-b")
