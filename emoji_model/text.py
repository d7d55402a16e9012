"""The text encoder: a CLIP whose last tokens hold a sketch of the picture, one token for each cell of a grid."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from emoji_model.sources import STYLES
from emoji_model.trainer import averaged

GRID = 4
"""Cells along each side of a picture."""
CELLS = GRID * GRID
"""The last CELLS tokens hold them."""
WIDTH = 192
"""Numbers of a token's embedding."""
MARKS = 1 + CELLS
"""The last MARKS numbers of a token say what it is: the first one, or the token of one of the cells."""
PER_STYLE = (WIDTH - MARKS - 1) // len(STYLES)
"""Before the marks, a token of a cell has this many numbers for its content in each style, and one that says whether
the noise decides the tint."""


def build(tokenizer: CLIPTokenizer, intermediate: int, layers: int) -> CLIPTextModel:
    """The text encoder for the tokens of `tokenizer`, with random weights and MLPs of `intermediate` units."""
    return CLIPTextModel(
        CLIPTextConfig(
            vocab_size=len(tokenizer),
            hidden_size=WIDTH,
            intermediate_size=intermediate,
            num_hidden_layers=layers,
            num_attention_heads=4,
            max_position_embeddings=tokenizer.model_max_length,
            hidden_act="gelu",
            projection_dim=WIDTH,
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


def load(folder: Path, tokenizer: CLIPTokenizer) -> CLIPTextModel:
    """The trained text encoder (moving average of the weights) of a stage, frozen."""
    return rebuild(averaged(folder, "text_encoder"), tokenizer).eval().requires_grad_(False)


def tokens(tokenizer: CLIPTokenizer, texts: list[str]) -> torch.Tensor:
    """B texts -> token ids int64 [B, T], as many as the tokenizer allows."""
    return tokenizer(texts, padding="max_length", truncation=True, return_tensors="pt").input_ids
