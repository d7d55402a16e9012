"""diffusers' own pipeline, one step without guidance: diffusers_pipeline.py MODEL eager|compile."""

from __future__ import annotations

import sys

import diffusers
import torch
from serving import serve  # type: ignore[import-not-found]


def main(model: str, mode: str) -> None:
    diffusers.utils.logging.disable_progress_bar()
    pipeline = diffusers.AutoPipelineForText2Image.from_pretrained(model, torch_dtype=torch.float32)
    pipeline.set_progress_bar_config(disable=True)
    if mode == "compile":
        for name in ("unet", "text_encoder"):
            setattr(pipeline, name, torch.compile(getattr(pipeline, name)))
        pipeline.vae.decoder = torch.compile(pipeline.vae.decoder)

    def draw(prompt: str, seed: int) -> object:
        generator = torch.Generator().manual_seed(seed)
        return pipeline(prompt, num_inference_steps=1, guidance_scale=0.0, generator=generator).images[0]

    version = f"diffusers {diffusers.__version__}, torch {torch.__version__}, {torch.get_num_threads()} threads"
    serve(draw, version=version, decoder=type(pipeline.vae).__name__)


if __name__ == "__main__":
    main(*sys.argv[1:])
