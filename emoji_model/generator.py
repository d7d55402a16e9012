"""Stage `generator`: the UNet learns to draw clean latents from captions and noise, in one step and in two.

Training is direct regression of x0 (`prediction_type="sample"`) at the scheduler's first timestep, on targets that are
coupled to the noise (coupling.py). The UNet comes from `sketch`, where it learned to unpack sketches. The text encoder
comes from `words` and stays as it is: when both learned, it lost a third of what it held of rare concepts. The second
timestep is trained on the generator's own output, so that two deterministic Euler steps refine what one step drew.
"""

from __future__ import annotations

from pathlib import Path

import torch
from diffusers import AutoencoderTiny
from torch import nn
from transformers import CLIPTokenizer

from emoji_model import text as encoders
from emoji_model.drawing import draw, losses
from emoji_model.pictures import save_grid
from emoji_model.sampler import Sampler
from emoji_model.text import tokens
from emoji_model.trainer import Schedule, Trainer, Worker
from emoji_model.unet import LATENT_SHAPE, load_unet, pin

SCHEDULE = Schedule(steps=10000, batch=48, learning_rate=6e-4, warmup=100, decay=0.5, sample_every=500, bfloat16=True)
AGAIN = 4
"""One in this many samples is drawn a second time."""
PREVIEW = (
    "a blue frog", "two cats", "a cat with sunglasses", "three red apples", "a rocket and a star", "astronaut",
    "a panda on a green background", "a purple cat on a yellow background", "a ghost with a crown", "fireworks",
    "a pizza next to a beer mug", "two dogs", "grinning cat", "noto style fox", "fluent style fox", "sandwich",
)  # fmt: skip


def train(worker: Worker, folder: Path, sampler: Sampler, vae: AutoencoderTiny, schedule: Schedule) -> None:
    """Train the UNet that `sketch` left beside `folder`, for the text encoder that `words` left.

    Leaves checkpoint.pt, metrics.jsonl and grids (PREVIEW x 6 seeds) in `folder`.
    """
    # Loaded here: a fork server hands over at most 256 tensors.
    encoder = encoders.load(folder.with_name("words"), sampler.tokenizer)
    unet = load_unet(folder.with_name("sketch")).requires_grad_(True).train()
    modules = nn.ModuleDict({"text_encoder": encoder, "unet": unet})
    trainer = Trainer(folder, modules, schedule, worker)

    def loss(step: int, rng: torch.Generator) -> dict[str, torch.Tensor]:
        pin(unet)
        batch = sampler.draw(schedule.batch // worker.world, rng)
        text = encoder(batch.input_ids).last_hidden_state
        # One row in a few, so that all kinds of captions are drawn a second time.
        return losses(unet, text, batch, slice(step % AGAIN, None, AGAIN))

    def sample(step: int) -> None:
        save_grid(preview(trainer.ema, vae, sampler.tokenizer), 12, folder / f"{step}.png")

    trainer.run(loss, sample)


@torch.no_grad()
def preview(modules: nn.ModuleDict, vae: AutoencoderTiny, tokenizer: CLIPTokenizer) -> torch.Tensor:
    """Pictures [len(PREVIEW) x 6, 3, H, W] from 6 seeds, drawn in one step."""
    text = modules["text_encoder"](tokens(tokenizer, list(PREVIEW))).last_hidden_state.repeat_interleave(6, 0)
    noise = torch.randn(6, *LATENT_SHAPE, generator=torch.Generator().manual_seed(0)).repeat(len(PREVIEW), 1, 1, 1)
    return (vae.decoder(draw(modules["unet"], text, noise, steps=1)) + 1) / 2


def load(folder: Path, tokenizer: CLIPTokenizer) -> nn.ModuleDict:
    """The trained text encoder and UNet (moving average of the weights), frozen."""
    return nn.ModuleDict({"text_encoder": encoders.load(folder, tokenizer), "unet": load_unet(folder)})
