"""A LoRA in a bundle, against diffusers' pipeline with the LoRA beside its weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import DiffusionPipeline
from safetensors.torch import save_file

from pahi_rt import Pipeline
from pahi_rt.export.exporter import export_bundle
from pahi_rt.models.foreign import quiet_libraries
from pahi_rt.models.generators import load_generator
from pahi_rt.models.random_models import save_random_pipeline
from pahi_rt.noise import draw_noise

pytest.importorskip("peft", reason="diffusers loads LoRAs with peft")
PROMPT, SEED, SCALE = "a red cat", 3, 0.7


def save_lora(model: Path, path: Path) -> Path:
    """A LoRA of every query of the UNet, as PEFT names it."""
    draw = torch.Generator().manual_seed(0)
    weights = {}
    for name, layer in load_generator(model).unet.named_modules():
        if name.endswith(".to_q"):
            out, into = layer.weight.shape
            weights[f"unet.{name}.lora_A.weight"] = torch.randn(4, into, generator=draw)
            weights[f"unet.{name}.lora_B.weight"] = torch.randn(out, 4, generator=draw)
    save_file(weights, path)
    return path


def draw_with_diffusers(model: Path, lora: Path) -> np.ndarray:
    noise = torch.from_numpy(draw_noise([SEED], (4, 8, 8)))
    with quiet_libraries():
        pipeline: Any = DiffusionPipeline.from_pretrained(model, low_cpu_mem_usage=False)
        pipeline.set_progress_bar_config(disable=True)
        pipeline.load_lora_weights(str(lora.parent), weight_name=lora.name, adapter_name="style")
        pipeline.set_adapters(["style"], [SCALE])
        options = {"num_inference_steps": 1, "guidance_scale": 0.0, "output_type": "np"}
        return pipeline(PROMPT, latents=noise, **options).images[0]


def test_a_bundle_draws_with_its_lora(tmp_path: Path) -> None:
    model = save_random_pipeline(tmp_path / "model")
    lora = save_lora(model, tmp_path / "style.safetensors")
    bundle = export_bundle(model, tmp_path / "b", name="b", steps=(1,), loras=[f"{lora}:{SCALE}"])
    assert bundle.manifest.generator.id == "model + style.safetensors:0.7"
    picture = np.asarray(Pipeline.load(tmp_path / "b")(PROMPT, seed=SEED)) / 255
    assert np.abs(picture - draw_with_diffusers(model, lora)).max() < 2 / 255
