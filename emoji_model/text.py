"""Stage `text`: the text encoder learns a sketch of each concept, before the UNet is trained.

A UNet that has to understand captions and to remember a thousand drawings learns slowly, and a sample costs ten times
as much as in the text encoder. So the text encoder remembers first. Each of its last 16 tokens (padding in all but the
longest captions) learns to hold one cell of a 4x4 grid over the concept's latents, in all drawing styles, up to a
linear map. The UNet then needs only one rule for all concepts: attend to the token of each cell, and unpack the style
that the noise asks for.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import nn
from torch.nn import functional as F
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from emoji_model import coupling
from emoji_model.captions import Captions
from emoji_model.sources import STYLES
from emoji_model.targets import apply_attributes, encode
from emoji_model.tokenizer import POSITIONS
from emoji_model.trainer import Schedule, Trainer, Worker, averaged

SCHEDULE = Schedule(steps=1400, batch=128, learning_rate=1e-3, warmup=100, decay=0.5, sample_every=10**9)
GRID = 4
"""Cells along each side."""
CELLS = GRID * GRID
"""The last CELLS tokens hold them."""


def build(tokenizer: CLIPTokenizer, intermediate: int = 768, layers: int = 4) -> CLIPTextModel:
    """The text encoder for the tokens of `tokenizer`, with random weights and MLPs of `intermediate` units."""
    return CLIPTextModel(
        CLIPTextConfig(
            vocab_size=len(tokenizer),
            hidden_size=192,
            intermediate_size=intermediate,
            num_hidden_layers=layers,
            num_attention_heads=4,
            max_position_embeddings=POSITIONS,
            hidden_act="gelu",
            projection_dim=192,
            pad_token_id=tokenizer.pad_token_id,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
        )
    )


def rebuild(weights: Mapping[str, torch.Tensor], tokenizer: CLIPTokenizer) -> CLIPTextModel:
    """The text encoder with these weights, with as many layers, and MLPs as wide, as they have."""
    widths = [len(value) for name, value in weights.items() if name.endswith("fc1.bias")]
    model = build(tokenizer, widths[0], len(widths))
    model.load_state_dict(weights)
    return model


def tokens(tokenizer: CLIPTokenizer, texts: list[str]) -> torch.Tensor:
    """B texts -> token ids int64 [B, POSITIONS]."""
    return tokenizer(texts, padding="max_length", truncation=True, max_length=POSITIONS, return_tensors="pt").input_ids


class Sketch(nn.Module):
    """A linear map for each of the last tokens: [B, POSITIONS, D] -> [B, CELLS, cell]."""

    def __init__(self, width: int, cell: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(CELLS, width, cell) / width**0.5)
        self.bias = nn.Parameter(torch.zeros(CELLS, cell))

    def forward(self, text: torch.Tensor) -> torch.Tensor:
        return torch.einsum("bkd,kdc->bkc", text[:, -CELLS:], self.weight) + self.bias


def cells(latents: torch.Tensor) -> torch.Tensor:
    """Latents [N, S, C, h, w] of each concept in each style -> cells [N, CELLS, S * C * h/GRID * w/GRID]."""
    count, styles, channels, height, width = latents.shape
    high, wide = height // GRID, width // GRID
    parts = latents.reshape(count, styles, channels, GRID, high, GRID, wide)
    return parts.permute(0, 3, 5, 1, 2, 4, 6).reshape(count, CELLS, -1)


def train(
    worker: Worker,
    folder: Path,
    latents: torch.Tensor,
    captions: Captions,
    tokenizer: CLIPTokenizer,
    schedule: Schedule,
) -> None:
    """Train on latents [concepts, styles, C, h, w]; leaves checkpoint.pt and metrics.jsonl in `folder`."""
    targets = cells(latents.float())
    modules = nn.ModuleDict({"text_encoder": build(tokenizer), "sketch": Sketch(192, targets.shape[-1])}).train()
    trainer = Trainer(folder, modules, schedule, worker)

    def loss(step: int, rng: torch.Generator) -> dict[str, torch.Tensor]:
        python_rng = random.Random(int(torch.randint(2**62, (), generator=rng)))
        count = schedule.batch // worker.world
        concepts = torch.randint(len(targets), (count,), generator=rng).tolist()
        drawn = [captions.draw(c, python_rng.choice((None, None, *STYLES)), python_rng) for c in concepts]
        # The sketch of a caption with several meanings is their mean; the noise later decides which one is drawn.
        wanted = torch.stack([targets[list(caption.meanings)].mean(0) for caption in drawn])
        text = modules["text_encoder"](tokens(tokenizer, [caption.text for caption in drawn])).last_hidden_state
        return {"sketch": F.smooth_l1_loss(modules["sketch"](text), wanted, beta=0.3)}

    trainer.run(loss, lambda step: None)


def load(folder: Path, tokenizer: CLIPTokenizer) -> CLIPTextModel:
    """The text encoder (moving average of the weights), without the linear maps of the sketch."""
    return rebuild(averaged(folder, "text_encoder"), tokenizer)


def plain_latents(pictures: torch.Tensor, vae: nn.Module) -> torch.Tensor:
    """Latents [concepts, styles, C, h, w] of uint8 pictures [concepts, styles, 4, H, W] on the background of tint 0."""
    flat = pictures.flatten(0, 1)
    latents = encode(vae, apply_attributes(flat, torch.zeros(len(flat), coupling.COUNT)))
    return latents.unflatten(0, pictures.shape[:2])
