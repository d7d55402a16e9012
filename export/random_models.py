"""Models with random weights, in diffusers' own format: what tests and benchmarks use where no hub is reachable.

"sd-turbo" has SD-Turbo's architecture with the tiny autoencoder (1.2 billion weights, 4.8 GB on disk); "tiny" has the
same classes and kinds of blocks in less than 5 MB. Their pictures mean nothing; their shapes and their cost do.
"""

from __future__ import annotations

import itertools
import json
import string
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from diffusers import AutoencoderTiny, UNet2DConditionModel
from tokenizers import pre_tokenizers
from torch import nn
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from pahi_rt.train.components import turbo_scheduler

Size = Literal["tiny", "sd-turbo"]


@dataclass(frozen=True)
class Architecture:
    """Keyword arguments of each component's constructor."""

    text_encoder: dict[str, Any]
    unet: dict[str, Any]
    vae: dict[str, Any]


ARCHITECTURES: dict[str, Architecture] = {
    "sd-turbo": Architecture(
        text_encoder={
            "vocab_size": 49408,
            "hidden_size": 1024,
            "intermediate_size": 4096,
            "num_hidden_layers": 23,
            "num_attention_heads": 16,
            "hidden_act": "gelu",
        },
        unet={
            "sample_size": 64,
            "block_out_channels": (320, 640, 1280, 1280),
            "layers_per_block": 2,
            "down_block_types": ("CrossAttnDownBlock2D",) * 3 + ("DownBlock2D",),
            "up_block_types": ("UpBlock2D",) + ("CrossAttnUpBlock2D",) * 3,
            "attention_head_dim": (5, 10, 20, 20),
            "use_linear_projection": True,
            "cross_attention_dim": 1024,
        },
        vae={},
    ),
    "tiny": Architecture(
        text_encoder={
            "vocab_size": 600,
            "hidden_size": 32,
            "intermediate_size": 64,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "hidden_act": "gelu",
            "max_position_embeddings": 24,
        },
        unet={
            "sample_size": 8,
            "block_out_channels": (32, 64),
            "layers_per_block": 1,
            "down_block_types": ("CrossAttnDownBlock2D", "DownBlock2D"),
            "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D"),
            "attention_head_dim": (2, 4),
            "use_linear_projection": True,
            "cross_attention_dim": 32,
            "norm_num_groups": 8,
        },
        vae={
            "encoder_block_out_channels": (8, 8, 8, 8),
            "decoder_block_out_channels": (8, 8, 8, 8),
            "num_encoder_blocks": (1, 1, 1, 1),
            "num_decoder_blocks": (1, 1, 1, 1),
        },
    ),
}


def save_random_pipeline(
    folder: str | Path, size: Size = "tiny", seed: int = 0, prediction_type: str = "epsilon"
) -> Path:
    """Write a StableDiffusionPipeline with random weights into `folder` and return it.

    Components are made and saved one after the other, so that "sd-turbo" needs the memory of its UNet only.
    """
    folder = Path(folder)
    architecture = ARCHITECTURES[size]
    text_config = _text_config(architecture.text_encoder)
    builders: dict[str, Callable[[], nn.Module]] = {
        "text_encoder": lambda: CLIPTextModel(text_config),
        "unet": lambda: UNet2DConditionModel(**architecture.unet),
        "vae": lambda: AutoencoderTiny(**architecture.vae),
    }
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        for name, build in builders.items():
            _randomise(build()).save_pretrained(folder / name)  # type: ignore[operator]
    turbo_scheduler(prediction_type).save_pretrained(folder / "scheduler")
    random_tokenizer(text_config.vocab_size, text_config.max_position_embeddings).save_pretrained(folder / "tokenizer")
    (folder / "model_index.json").write_text(json.dumps(_model_index(), indent=2) + "\n")
    return folder


@torch.no_grad()
def _randomise(model: nn.Module) -> nn.Module:
    # With PyTorch's own initialisation signals fade from layer to layer: every picture is the same near-black, and a
    # test that compares pictures sees nothing. These weights keep the variance, and centre pictures on grey.
    for parameter in model.parameters():
        if parameter.dim() >= 2:
            nn.init.kaiming_normal_(parameter, nonlinearity="linear")
    if isinstance(model, AutoencoderTiny):
        nn.init.constant_(model.decoder.layers[-1].bias, 0.5)
    return model


def random_tokenizer(vocab_size: int, max_length: int) -> CLIPTokenizer:
    """A CLIPTokenizer laid out like the original: 256 bytes, the same at a word's end, merges, <start>, <end>.

    The merges spell every string of two letters, three letters and so on until the vocabulary is full. Like
    SD-Turbo's, it pads with "!", which is id 0.
    """
    # The order of bytes in CLIP's vocabulary is that of their printable stand-ins.
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokens = alphabet + [symbol + "</w>" for symbol in alphabet]
    merges = list(itertools.islice(_merges(), vocab_size - len(tokens) - 2))
    tokens += [left + right for left, right in merges] + ["<|startoftext|>", "<|endoftext|>"]
    return CLIPTokenizer(
        vocab={token: position for position, token in enumerate(tokens)},
        merges=merges,
        pad_token="!",
        model_max_length=max_length,
    )


def _merges() -> Iterator[tuple[str, str]]:
    for length in itertools.count(1):
        for letters in itertools.product(string.ascii_lowercase, repeat=length):
            for last in string.ascii_lowercase:
                yield "".join(letters), last
                yield "".join(letters), last + "</w>"


def _text_config(architecture: dict[str, Any]) -> CLIPTextConfig:
    vocab_size = architecture["vocab_size"]
    return CLIPTextConfig(**architecture, bos_token_id=vocab_size - 2, eos_token_id=vocab_size - 1, pad_token_id=0)


def _model_index() -> dict[str, Any]:
    return {
        "_class_name": "StableDiffusionPipeline",
        "feature_extractor": [None, None],
        "requires_safety_checker": False,
        "safety_checker": [None, None],
        "scheduler": ["diffusers", "EulerDiscreteScheduler"],
        "text_encoder": ["transformers", "CLIPTextModel"],
        "tokenizer": ["transformers", "CLIPTokenizer"],
        "unet": ["diffusers", "UNet2DConditionModel"],
        "vae": ["diffusers", "AutoencoderTiny"],
    }
