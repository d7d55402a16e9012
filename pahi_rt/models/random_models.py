"""Models with random weights in diffusers' own format, for tests and benchmarks that cannot reach the hub.

"sd-turbo" (1.2 billion weights, 4.8 GB on disk, with the tiny autoencoder), "lcm" (LCM_Dreamshaper_v7) and
"sdxl-turbo" have the architectures of the originals; "tiny", "tiny-lcm" and "tiny-sdxl" have the same classes and
kinds of blocks in less than 5 MB each. Their pictures are meaningless; their shapes and costs are real.
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
from diffusers import (
    AutoencoderKL,
    AutoencoderTiny,
    EulerAncestralDiscreteScheduler,
    EulerDiscreteScheduler,
    LCMScheduler,
    UNet2DConditionModel,
)
from tokenizers import pre_tokenizers
from torch import nn
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer

from pahi_rt.models.components import turbo_scheduler
from pahi_rt.models.families import FAMILIES

Size = Literal["tiny", "tiny-lcm", "tiny-sdxl", "sd-turbo", "lcm", "sdxl-turbo"]
END = "<|endoftext|>"


@dataclass(frozen=True)
class Architecture:
    """Keyword arguments for each component's constructor, and the classes of those that the pipeline leaves open."""

    text_encoder: dict[str, Any]
    unet: dict[str, Any]
    vae: dict[str, Any]
    text_encoder_2: dict[str, Any] | None = None
    pipeline: str = "StableDiffusionPipeline"
    autoencoder: Any = AutoencoderTiny
    scheduler: Any = EulerDiscreteScheduler
    pad_token: str = "!"
    """Padding of the first tokenizer. A second one always pads with "!"."""


CLIP_L = {
    "vocab_size": 49408,
    "hidden_size": 768,
    "intermediate_size": 3072,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "hidden_act": "quick_gelu",
    "projection_dim": 768,
}
KL = {
    "block_out_channels": (128, 256, 512, 512),
    "down_block_types": ("DownEncoderBlock2D",) * 4,
    "up_block_types": ("UpDecoderBlock2D",) * 4,
    "layers_per_block": 2,
}
TINY_CLIP = {
    "vocab_size": 600,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "hidden_act": "gelu",
    "max_position_embeddings": 24,
}
TINY_UNET = {
    "sample_size": 8,
    "block_out_channels": (32, 64),
    "layers_per_block": 1,
    "down_block_types": ("CrossAttnDownBlock2D", "DownBlock2D"),
    "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D"),
    "attention_head_dim": (2, 4),
    "use_linear_projection": True,
    "cross_attention_dim": 32,
    "norm_num_groups": 8,
}
TINY_KL = KL | {"block_out_channels": (8, 8, 8, 8), "layers_per_block": 1, "norm_num_groups": 4}

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
    "lcm": Architecture(
        text_encoder=CLIP_L,
        unet={"sample_size": 96, "attention_head_dim": 8, "cross_attention_dim": 768, "time_cond_proj_dim": 256},
        vae=KL | {"scaling_factor": 0.18215},
        pipeline="LatentConsistencyModelPipeline",
        autoencoder=AutoencoderKL,
        scheduler=LCMScheduler,
        pad_token=END,
    ),
    "sdxl-turbo": Architecture(
        text_encoder=CLIP_L,
        text_encoder_2={
            "vocab_size": 49408,
            "hidden_size": 1280,
            "intermediate_size": 5120,
            "num_hidden_layers": 32,
            "num_attention_heads": 20,
            "hidden_act": "gelu",
            "projection_dim": 1280,
        },
        unet={
            "sample_size": 64,
            "block_out_channels": (320, 640, 1280),
            "layers_per_block": 2,
            "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
            "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
            "transformer_layers_per_block": (1, 2, 10),
            "attention_head_dim": (5, 10, 20),
            "use_linear_projection": True,
            "cross_attention_dim": 2048,
            "addition_embed_type": "text_time",
            "addition_time_embed_dim": 256,
            "projection_class_embeddings_input_dim": 2816,
        },
        vae=KL | {"scaling_factor": 0.13025},
        pipeline="StableDiffusionXLPipeline",
        autoencoder=AutoencoderKL,
        scheduler=EulerAncestralDiscreteScheduler,
        pad_token=END,
    ),
    "tiny": Architecture(
        text_encoder=TINY_CLIP,
        unet=TINY_UNET,
        vae={
            "encoder_block_out_channels": (8, 8, 8, 8),
            "decoder_block_out_channels": (8, 8, 8, 8),
            "num_encoder_blocks": (1, 1, 1, 1),
            "num_decoder_blocks": (1, 1, 1, 1),
        },
    ),
    "tiny-lcm": Architecture(
        text_encoder=TINY_CLIP | {"hidden_act": "quick_gelu"},
        unet=TINY_UNET | {"use_linear_projection": False, "time_cond_proj_dim": 16},
        vae=TINY_KL | {"scaling_factor": 0.18215},
        pipeline="LatentConsistencyModelPipeline",
        autoencoder=AutoencoderKL,
        scheduler=LCMScheduler,
        pad_token=END,
    ),
    "tiny-sdxl": Architecture(
        text_encoder=TINY_CLIP | {"hidden_act": "quick_gelu"},
        text_encoder_2=TINY_CLIP | {"hidden_size": 40, "num_hidden_layers": 3, "projection_dim": 24},
        unet=TINY_UNET
        | {
            "block_out_channels": (32, 48),
            "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D"),
            "up_block_types": ("CrossAttnUpBlock2D", "UpBlock2D"),
            "transformer_layers_per_block": (1, 2),
            "cross_attention_dim": 72,
            "addition_embed_type": "text_time",
            "addition_time_embed_dim": 8,
            "projection_class_embeddings_input_dim": 72,
        },
        vae=TINY_KL | {"scaling_factor": 0.13025},
        pipeline="StableDiffusionXLPipeline",
        autoencoder=AutoencoderKL,
        scheduler=EulerAncestralDiscreteScheduler,
        pad_token=END,
    ),
}


def save_random_pipeline(
    folder: str | Path, size: Size = "tiny", seed: int = 0, prediction_type: str = "epsilon"
) -> Path:
    """Write a diffusers pipeline with random weights into `folder`; return the folder.

    Components are made and saved one at a time, so the UNet alone decides how much memory this needs.
    """
    folder = Path(folder)
    architecture = ARCHITECTURES[size]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        for name, build in _builders(architecture).items():
            _save(_randomise(build()), folder / name)
    turbo_scheduler(prediction_type, architecture.scheduler).save_pretrained(folder / "scheduler")
    second = {} if architecture.text_encoder_2 is None else {"tokenizer_2": "!"}
    for name, pad_token in {"tokenizer": architecture.pad_token, **second}.items():
        text = _text_config(architecture.text_encoder)
        tokenizer = random_tokenizer(text.vocab_size, text.max_position_embeddings, pad_token)
        tokenizer.save_pretrained(folder / name)
        # vocab.json and merges.txt, as on the hub: transformers 4 reads no other files.
        tokenizer.backend_tokenizer.model.save(str(folder / name))
    (folder / "model_index.json").write_text(json.dumps(_model_index(architecture), indent=2) + "\n")
    return folder


def _save(model: Any, folder: Path) -> None:
    """Save a component, CLIP with the names that its weights have on the hub, which programs other than transformers
    expect."""
    if not isinstance(model, CLIPTextModel):
        model.save_pretrained(folder)
        return
    prefix = "text_model."
    weights = {f"{prefix}{name.removeprefix(prefix)}": weight for name, weight in model.state_dict().items()}
    model.save_pretrained(folder, state_dict=weights)


def _builders(architecture: Architecture) -> dict[str, Callable[[], nn.Module]]:
    second = architecture.text_encoder_2
    builders: dict[str, Callable[[], nn.Module]] = {
        "text_encoder": lambda: CLIPTextModel(_text_config(architecture.text_encoder)),
        "unet": lambda: UNet2DConditionModel(**architecture.unet),
        "vae": lambda: architecture.autoencoder(**architecture.vae),
    }
    if second is not None:
        builders["text_encoder_2"] = lambda: CLIPTextModelWithProjection(_text_config(second))
    return builders


@torch.no_grad()
def _randomise(model: nn.Module) -> nn.Module:
    # With PyTorch's own initialisation signals fade from layer to layer: every picture is the same near-black, and a
    # test that compares pictures cannot fail. These weights preserve the variance, and centre pictures on grey.
    for parameter in model.parameters():
        if parameter.dim() >= 2:
            nn.init.kaiming_normal_(parameter, nonlinearity="linear")
    if isinstance(model, AutoencoderTiny):
        nn.init.constant_(model.decoder.layers[-1].bias, 0.5)
    return model


def random_tokenizer(vocab_size: int, max_length: int, pad_token: str = "!") -> CLIPTokenizer:
    """A CLIPTokenizer laid out like the original: 256 bytes, the same at the end of a word, merges, <start>, <end>.

    The merges spell every string of two letters, of three letters and so on until the vocabulary is full. By default it
    pads with "!", which is id 0, as SD-Turbo's does; the tokenizers of SD 1.x and the first of SDXL pad with <end>.
    """
    # CLIP's vocabulary orders bytes by their printable stand-ins.
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokens = alphabet + [symbol + "</w>" for symbol in alphabet]
    merges = list(itertools.islice(_merges(), vocab_size - len(tokens) - 2))
    tokens += [left + right for left, right in merges] + ["<|startoftext|>", END]
    return CLIPTokenizer(
        vocab={token: position for position, token in enumerate(tokens)},
        merges=merges,
        pad_token=pad_token,
        model_max_length=max_length,
    )


def _merges() -> Iterator[tuple[str, str]]:
    for length in itertools.count(1):
        for letters in itertools.product(string.ascii_lowercase, repeat=length):
            for last in string.ascii_lowercase:
                yield "".join(letters), last
                yield "".join(letters), last + "</w>"


def _text_config(architecture: dict[str, Any]) -> CLIPTextConfig:
    # The wrong ids that the original configurations have: see LEGACY_END.
    return CLIPTextConfig(**architecture, bos_token_id=0, eos_token_id=2, pad_token_id=1)


def _model_index(architecture: Architecture) -> dict[str, Any]:
    unused = ["feature_extractor", "image_encoder"]
    options: dict[str, Any] = {"force_zeros_for_empty_prompt": True}
    if architecture.text_encoder_2 is None:
        unused.append("safety_checker")
        options = {"requires_safety_checker": False}
    chosen = {"vae": architecture.autoencoder.__name__, "scheduler": architecture.scheduler.__name__}
    parts: dict[str, list[str | None]] = {}
    for part, kinds in FAMILIES[architecture.pipeline].items():
        name = chosen.get(part, next(iter(kinds)))
        parts[part] = ["diffusers" if kinds[name].__module__.startswith("diffusers") else "transformers", name]
    parts |= {part: [None, None] for part in unused}
    return {"_class_name": architecture.pipeline, **options, **dict(sorted(parts.items()))}
