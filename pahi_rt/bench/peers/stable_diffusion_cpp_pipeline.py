"""stable-diffusion.cpp through its Python package: stable_diffusion_cpp_pipeline.py MODEL f32|f16|q8_0."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import stable_diffusion_cpp  # type: ignore[import-not-found]
from serving import picture_size, serve  # type: ignore[import-not-found]


def main(model: str, weights: str) -> None:
    tiny = Path(model) / "vae" / "diffusion_pytorch_model.safetensors"
    size = picture_size(model)
    pipeline = stable_diffusion_cpp.StableDiffusion(
        model_path=model,
        taesd_path=str(tiny),
        wtype=weights,
        n_threads=len(os.sched_getaffinity(0)),
        vae_decode_only=True,
    )
    options = {"width": size, "height": size, "cfg_scale": 1.0, "sample_steps": 1, "sample_method": "euler"}

    def draw(prompt: str, seed: int) -> object:
        return pipeline.generate_image(prompt=prompt, seed=seed, **options)[0]

    serve(draw, version=f"stable-diffusion-cpp-python {stable_diffusion_cpp.__version__}", decoder="AutoencoderTiny")


if __name__ == "__main__":
    main(*sys.argv[1:])
