"""Two small preference scorers for the emoji stack, in the parts of PickScore and ImageReward.

    DualEncoder      as PickScore: cosine of a picture's and a prompt's embedding, times a learned scale
    CrossEncoder     as ImageReward: the prompt's tokens attend to the picture's, a linear head gives a reward

They share no weights, no data order and no architecture beyond 3x3 convolutions: what one of them rewards and the
other does not is that one's own shortcut. `preferences.py` trains them.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import CLIPTokenizer

from pahi_rt.errors import PahiError
from pahi_rt.train.emoji import tokenizer
from pahi_rt.train.emoji.text import tokens
from pahi_rt.train.scorers.preprocess import check_inputs

HERE = Path(__file__).parent
WORDS = HERE / "weights" / "tokenizer"
"""Both scorers read the tokens of the generator's tokeniser; what they make of them is their own."""
HOME = HERE / "scorers"
IMAGE_SIZE = 128


def image_encoder(widths: Sequence[int]) -> nn.Sequential:
    """Pictures [B, 3, 128, 128] in [-1, 1] -> features [B, widths[-1], 128 / 2**n, ...], halved by every stage."""
    layers: list[nn.Module] = []
    for narrow, wide in zip((3, *widths), widths, strict=False):
        layers += [nn.Conv2d(narrow, wide, 4, stride=2, padding=1), nn.SiLU()]
        layers += [nn.Conv2d(wide, wide, 3, padding=1), nn.GroupNorm(8, wide), nn.SiLU()]
    return nn.Sequential(*layers)


class DualEncoder(nn.Module):
    """PickScore's part: score = cosine in [-1, 1]; scale = exp(logit_scale)."""

    unit = "cosine"

    def __init__(self, entries: int) -> None:
        super().__init__()
        self.image = image_encoder((24, 48, 96, 128, 160))
        self.image_head = nn.Linear(2 * 160, 128)
        self.words = nn.EmbeddingBag(entries, 128, mode="mean", padding_idx=0)
        self.text_head = nn.Sequential(nn.Linear(128, 256), nn.SiLU(), nn.Linear(256, 128))
        self.logit_scale = nn.Parameter(torch.tensor(2.3))

    @property
    def scale(self) -> float:
        return float(self.logit_scale.detach().exp())

    def logits(self, difference: Tensor) -> Tensor:
        """Logit of a preference from a difference of scores; differentiable in the scale."""
        return difference * self.logit_scale.exp()

    def look(self, images: Tensor) -> Tensor:
        """Unit vectors [B, 128]. The mean says what is shown, the maximum where something is wrong."""
        features = self.image(images * 2 - 1)
        pooled = torch.cat([features.mean((2, 3)), features.amax((2, 3))], 1)
        return F.normalize(self.image_head(pooled), dim=-1)

    def embed_texts(self, input_ids: Tensor) -> Tensor:
        """Unit vectors [B, 128] of token ids [B, T]."""
        return F.normalize(self.text_head(self.words(input_ids)), dim=-1)

    def judge(self, seen: Tensor, input_ids: Tensor) -> Tensor:
        """Cosines [B] of what `look` saw and token ids [B, T]."""
        return (seen * self.embed_texts(input_ids)).sum(-1)

    def forward(self, images: Tensor, input_ids: Tensor) -> Tensor:
        """Cosines [B] of pictures [B, 3, 128, 128] in [0, 1] and token ids [B, T]."""
        return self.judge(self.look(images), input_ids)


class CrossEncoder(nn.Module):
    """ImageReward's part: a reward in standard deviations of the rewards of generated pictures."""

    unit = "standard deviations"
    mean: Tensor
    std: Tensor

    def __init__(self, entries: int) -> None:
        super().__init__()
        self.image = image_encoder((32, 64, 96, 128))
        self.places = nn.Parameter(torch.randn(64, 128) * 0.02)
        self.words = nn.Embedding(entries, 128, padding_idx=0)
        self.positions = nn.Parameter(torch.randn(tokenizer.POSITIONS, 128) * 0.02)
        self.blocks = nn.ModuleList(
            nn.TransformerDecoderLayer(128, 4, 256, dropout=0.0, activation="gelu", batch_first=True, norm_first=True)
            for _ in range(2)
        )
        self.head = nn.Sequential(nn.LayerNorm(128), nn.Linear(128, 64), nn.GELU(), nn.Linear(64, 1))
        self.register_buffer("mean", torch.zeros(()))
        self.register_buffer("std", torch.ones(()))

    @property
    def scale(self) -> float:
        return float(self.std)

    def logits(self, difference: Tensor) -> Tensor:
        """Logit of a preference from a difference of scores."""
        return difference * self.std

    def look(self, images: Tensor) -> Tensor:
        """Tokens [B, 64, 128], one for each square of 16 x 16 pixels."""
        tokens: Tensor = self.image(images * 2 - 1).flatten(2).transpose(1, 2) + self.places
        return tokens

    def judge(self, seen: Tensor, input_ids: Tensor) -> Tensor:
        """Rewards [B] of what `look` saw and token ids [B, T]."""
        state = self.words(input_ids) + self.positions
        for block in self.blocks:
            state = block(state, seen)
        # The first token is always the same: what it has gathered is the verdict.
        return (self.head(state[:, 0]).squeeze(-1) - self.mean) / self.std

    def forward(self, images: Tensor, input_ids: Tensor) -> Tensor:
        """Rewards [B] of pictures [B, 3, 128, 128] in [0, 1] and token ids [B, T]."""
        return self.judge(self.look(images), input_ids)


Network = DualEncoder | CrossEncoder
KINDS: dict[str, type[DualEncoder] | type[CrossEncoder]] = {"emoji-a": DualEncoder, "emoji-b": CrossEncoder}


class EmojiScorer(nn.Module):
    """A frozen scorer that takes prompts as text: the scorer protocol of `pahi_rt.train.scorers`."""

    def __init__(self, name: str, network: Network, words: CLIPTokenizer) -> None:
        super().__init__()
        self.name, self.unit, self.scale = name, network.unit, network.scale
        self.network, self.words = network.eval().requires_grad_(False), words

    def score(self, images: Tensor, prompts: Sequence[str]) -> Tensor:
        """Pictures [B, 3, 128, 128] in [0, 1] and a prompt for each -> scores [B]. PahiError for other shapes."""
        check_inputs(images, prompts)
        if images.shape[-2:] != (IMAGE_SIZE, IMAGE_SIZE):
            what = f"the scorer {self.name} reads {IMAGE_SIZE}x{IMAGE_SIZE} pictures, not {tuple(images.shape[-2:])}"
            raise PahiError(what, fix="use it with the emoji generator, or another scorer with this one")
        ids = tokens(self.words, list(prompts)).to(images.device)
        scores: Tensor = self.network(images, ids)
        return scores


def save(network: nn.Module, path: Path, report: dict[str, Any]) -> None:
    """float16 safetensors, with what was measured in the metadata; written to a temporary name and renamed."""
    partial = path.with_suffix(".partial")
    weights = {key: value.half().contiguous() for key, value in network.state_dict().items()}
    save_file(weights, partial, metadata={"measured": json.dumps(report)})
    partial.replace(path)


def measured(path: Path) -> dict[str, Any]:
    """The report that `save` put into a scorer's file."""
    with safe_open(path, "pt") as file:
        report: dict[str, Any] = json.loads(file.metadata()["measured"])
    return report


def load(name: str, source: str | Path | None = None, words: CLIPTokenizer | None = None) -> EmojiScorer:
    """The scorer `emoji-a` or `emoji-b`, from `source` or as shipped, for the tokens of `words` or of the published
    tokeniser. PahiError for a missing or foreign file."""
    path = Path(source) if source else HOME / f"{name}.safetensors"
    words = words or tokenizer.load(WORDS)
    network = KINDS[name](len(words))
    fix = "python -m pahi_rt.train.emoji scorers"
    try:
        # Halves become floats as they are copied into the network.
        network.load_state_dict(load_file(path))
    except FileNotFoundError as error:
        raise PahiError(f"there is no scorer at {path}", fix=fix) from error
    except (SafetensorError, RuntimeError, OSError) as error:
        raise PahiError(f"{path} does not hold the scorer {name}: {error}", fix=fix) from error
    return EmojiScorer(name, network, words)
