"""Stage `text`: the text encoder learns to sketch, before there is a UNet.

A UNet that must both understand captions and remember a thousand drawings learns slowly, and costs ten times
as much per sample as the text encoder. So the text encoder remembers first: each of its last 16 tokens (padding
in all but the longest captions) learns to hold one cell of a 4x4 grid over the concept's latents, in all
drawing styles, up to a linear map. What is left for the UNet is one rule for all concepts: look at your cell's
token, and unpack the style that the noise asks for.
"""

from __future__ import annotations

import random
from pathlib import Path

import torch
from torch import nn
from torch.nn import functional as F
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from emoji_model import coupling, tokenizer
from emoji_model.captions import Captions
from emoji_model.sources import STYLES
from emoji_model.targets import apply_attributes, encode
from emoji_model.trainer import Schedule, Trainer, Worker, averaged

SCHEDULE = Schedule(steps=1400, batch=128, learning_rate=1e-3, warmup=100, decay=0.5, sample_every=10**9)
GRID = 4
"""Cells along each side; their tokens are the last GRID * GRID."""


def build(words: CLIPTokenizer) -> CLIPTextModel:
    return CLIPTextModel(
        CLIPTextConfig(
            vocab_size=len(words),
            hidden_size=192,
            intermediate_size=768,
            num_hidden_layers=4,
            num_attention_heads=4,
            max_position_embeddings=tokenizer.POSITIONS,
            hidden_act="gelu",
            projection_dim=192,
            pad_token_id=words.pad_token_id,
            bos_token_id=words.bos_token_id,
            eos_token_id=words.eos_token_id,
        )
    )


def tokens(words: CLIPTokenizer, texts: list[str]) -> torch.Tensor:
    """Input ids [B, POSITIONS]."""
    return words(
        texts, padding="max_length", truncation=True, max_length=tokenizer.POSITIONS, return_tensors="pt"
    ).input_ids


class Sketch(nn.Module):
    """One linear map for each of the last tokens: [B, POSITIONS, D] -> [B, GRID * GRID, cell]."""

    def __init__(self, width: int, cell: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(GRID * GRID, width, cell) / width**0.5)
        self.bias = nn.Parameter(torch.zeros(GRID * GRID, cell))

    def forward(self, text: torch.Tensor) -> torch.Tensor:
        return torch.einsum("bkd,kdc->bkc", text[:, -GRID * GRID :], self.weight) + self.bias


def cells(latents: torch.Tensor) -> torch.Tensor:
    """Latents of each concept in each style, [N, S, C, h, w], as [N, GRID * GRID, S * C * h/GRID * w/GRID]."""
    count, styles, channels, height, width = latents.shape
    high, wide = height // GRID, width // GRID
    parts = latents.reshape(count, styles, channels, GRID, high, GRID, wide)
    return parts.permute(0, 3, 5, 1, 2, 4, 6).reshape(count, GRID * GRID, -1)


def train(
    worker: Worker, folder: Path, latents: torch.Tensor, captions: Captions, words: CLIPTokenizer, schedule: Schedule
) -> None:
    """Train on latents [concepts, styles, C, h, w]; leaves checkpoint.pt and metrics.jsonl in `folder`."""
    targets = cells(latents.float())
    modules = nn.ModuleDict({"text_encoder": build(words), "sketch": Sketch(192, targets.shape[-1])}).train()
    trainer = Trainer(folder, modules, schedule, worker)

    def loss(step: int, generator: torch.Generator) -> dict[str, torch.Tensor]:
        rng = random.Random(int(torch.randint(2**62, (), generator=generator)))
        count = schedule.batch // worker.world
        concepts = torch.randint(len(targets), (count,), generator=generator).tolist()
        drawn = [captions.draw(c, rng.choice((None, None, *STYLES)), rng) for c in concepts]
        # A caption of several meanings sketches their mean: which one is drawn, the noise decides later.
        wanted = torch.stack([targets[list(caption.meanings)].mean(0) for caption in drawn])
        text = modules["text_encoder"](tokens(words, [caption.text for caption in drawn])).last_hidden_state
        return {"sketch": F.smooth_l1_loss(modules["sketch"](text), wanted, beta=0.3)}

    trainer.run(loss, lambda step: None)


def load(folder: Path, words: CLIPTokenizer) -> CLIPTextModel:
    """The text encoder (moving average of the weights); the sketch's maps are thrown away."""
    model = build(words)
    model.load_state_dict(averaged(folder, "text_encoder"))
    return model


def plain_latents(pictures: torch.Tensor, vae: nn.Module) -> torch.Tensor:
    """Latents [concepts, styles, C, h, w] of uint8 pictures [concepts, styles, 4, H, W] on the middle background."""
    flat = pictures.flatten(0, 1)
    latents = encode(vae, apply_attributes(flat, torch.zeros(len(flat), coupling.COUNT)))
    return latents.unflatten(0, pictures.shape[:2])
