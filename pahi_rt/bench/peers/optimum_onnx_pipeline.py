"""optimum-onnx's pipeline on ONNX Runtime: optimum_onnx_pipeline.py MODEL.

optimum-onnx 0.1 cannot export a tiny autoencoder (it looks for down_block_types), so that it draws with Stable
Diffusion's own one, of random weights; what that takes is said with the decoder's name.
"""

from __future__ import annotations

import json
import statistics
import sys
import tempfile
import time
from importlib.metadata import version  # noqa: TID251 (optimum.onnxruntime does not say)
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import AutoencoderKL
from optimum.onnxruntime import ORTStableDiffusionPipeline  # type: ignore[import-not-found]
from serving import serve  # type: ignore[import-not-found]

KL = {
    "block_out_channels": (128, 256, 512, 512),
    "down_block_types": ("DownEncoderBlock2D",) * 4,
    "up_block_types": ("UpDecoderBlock2D",) * 4,
    "layers_per_block": 2,
    "latent_channels": 4,
}


def main(model: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        with_kl(Path(model), Path(folder))
        pipeline = ORTStableDiffusionPipeline.from_pretrained(folder, export=True)
        pipeline.set_progress_bar_config(disable=True)

        def draw(prompt: str, seed: int) -> object:
            random = torch.Generator().manual_seed(seed)
            return pipeline(prompt, num_inference_steps=1, guidance_scale=0.0, generator=random).images[0]

        decoder = f"AutoencoderKL, {time_decoder(pipeline):.0f} ms of it"
        serve(draw, version=f"optimum-onnx {version('optimum-onnx')}", decoder=decoder)


def with_kl(model: Path, folder: Path) -> None:
    """The diffusers folder with Stable Diffusion's autoencoder."""
    for part in model.iterdir():
        if part.name not in ("vae", "model_index.json"):
            (folder / part.name).symlink_to(part.resolve())
    AutoencoderKL(**KL).save_pretrained(folder / "vae")
    index = json.loads((model / "model_index.json").read_text())
    index["vae"] = ["diffusers", "AutoencoderKL"]
    (folder / "model_index.json").write_text(json.dumps(index))


def time_decoder(pipeline: Any) -> float:
    """Milliseconds, the median of three after one to warm up."""
    size = pipeline.unet.config.sample_size
    latents, taken = np.zeros((1, 4, size, size), np.float32), []
    for _ in range(4):
        started = time.perf_counter()
        pipeline.vae_decoder(latent_sample=latents)
        taken.append((time.perf_counter() - started) * 1000)
    return statistics.median(taken[1:])


if __name__ == "__main__":
    main(*sys.argv[1:])
