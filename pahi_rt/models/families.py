"""The supported pipelines, the classes of their parts, and what one family has and others do not.

    StableDiffusionPipeline          SD 1.x and 2.x layout: SD-Turbo, models with a fused LCM-LoRA, the emoji generator
    LatentConsistencyModelPipeline   the same layout; the UNet takes the guidance scale as an input
    StableDiffusionXLPipeline        SDXL layout: SDXL-Turbo, SDXL with the UNet of lcm-sdxl

Everything else is read from the configurations of a model's parts.
"""

from __future__ import annotations

from typing import Any

from diffusers import (
    AutoencoderKL,
    AutoencoderTiny,
    EulerAncestralDiscreteScheduler,
    EulerDiscreteScheduler,
    LCMScheduler,
    UNet2DConditionModel,
)
from transformers import CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer

Parts = dict[str, dict[str, Any]]

_TOKENIZER = {"CLIPTokenizer": CLIPTokenizer, "CLIPTokenizerFast": CLIPTokenizer}
SHARED: Parts = {
    "unet": {"UNet2DConditionModel": UNet2DConditionModel},
    "vae": {"AutoencoderTiny": AutoencoderTiny, "AutoencoderKL": AutoencoderKL},
    "scheduler": {
        "EulerDiscreteScheduler": EulerDiscreteScheduler,
        "EulerAncestralDiscreteScheduler": EulerAncestralDiscreteScheduler,
        "LCMScheduler": LCMScheduler,
    },
}
_ONE_ENCODER: Parts = {"tokenizer": _TOKENIZER, "text_encoder": {"CLIPTextModel": CLIPTextModel}, **SHARED}
_TWO_ENCODERS: Parts = {
    **_ONE_ENCODER,
    "tokenizer_2": _TOKENIZER,
    "text_encoder_2": {"CLIPTextModelWithProjection": CLIPTextModelWithProjection},
}

FAMILIES: dict[str, Parts] = {
    "StableDiffusionPipeline": _ONE_ENCODER,
    "LatentConsistencyModelPipeline": _ONE_ENCODER,
    "StableDiffusionXLPipeline": _TWO_ENCODERS,
}
"""Class of the pipeline in model_index.json -> folder of a part -> class name in model_index.json -> class."""

GUIDANCE_SCALE = 8.0
"""For UNets that take the guidance scale as an input (time_cond_proj_dim), from the model cards of LCM_Dreamshaper_v7
and lcm-sdxl. All other models here are distilled to draw without guidance."""
