"""Stage `widen`: the UNet learns to draw more concepts, and composed scenes (scenes.py).

The text encoder is the one that `words` left, and stays as it is: when both learned, the encoder lost a third of what
it held of new concepts in 5,000 steps, and the UNet did not learn to draw things at half size from what was left.
"""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path

import torch
from diffusers import AutoencoderTiny

from emoji_model import coupling, generator, text
from emoji_model.encoded import OPEN, EncodedScenes
from emoji_model.generator import Batch, Sampler
from emoji_model.pictures import save_grid
from emoji_model.trainer import Schedule, Trainer, Worker
from pahi_rt.models.sampling import euler_schedule

SCHEDULE = Schedule(steps=9000, batch=48, learning_rate=8e-4, warmup=300, decay=0.25, sample_every=500, bfloat16=True)
PLAIN = 0.3
"""Share of a batch with plain captions. More than half of the composed ones show one thing, which teaches it too."""
AGAIN = 0.25
"""Share of a batch that is drawn a second time."""
PREVIEW = (
    "a blue frog", "two cats", "a cat with sunglasses", "three red apples", "a rocket and a star", "astronaut",
    "a panda on a green background", "a purple cat on a yellow background", "a ghost with a crown", "fireworks",
    "a pizza next to a beer mug", "two dogs", "grinning cat", "fox", "a green heart", "sandwich",
)  # fmt: skip


def draw_composed(encoded: EncodedScenes, count: int, rng: torch.Generator) -> Batch:
    """Draw `count` scenes, with noise that asks for their tint, in the style that the noise asks for."""
    rows = torch.randint(len(encoded), (count,), generator=rng)
    noise = torch.randn(count, *generator.LATENT_SHAPE, generator=rng)
    values = coupling.read(noise)
    tint = torch.where(encoded.grounded[rows, None], values[:, coupling.TINT], encoded.values[rows][:, coupling.TINT])
    values[:, coupling.TINT] = tint
    named, every = encoded.style[rows].long(), encoded.latents[rows].float()
    style = torch.where(named == OPEN, coupling.style_of(values), named)
    return Batch(
        encoded.input_ids[rows].long(), coupling.write(noise, values), every[torch.arange(count), style], every
    )


def join(*batches: Batch) -> Batch:
    """Batches one after the other."""
    return Batch(**{f.name: torch.cat([getattr(batch, f.name) for batch in batches]) for f in fields(Batch)})


def train(
    worker: Worker, folder: Path, sampler: Sampler, encoded: EncodedScenes, vae: AutoencoderTiny, schedule: Schedule
) -> None:  # fmt: skip
    """Train the UNet that the stage `generator` left beside `folder`, for the text encoder that `words` left.

    Leaves checkpoint.pt, metrics.jsonl and grids (PREVIEW x 6 seeds) in `folder`.
    """
    # Loaded here: a fork server hands over at most 256 tensors.
    modules = generator.load(folder.with_name("generator"), sampler.tokenizer)
    modules["text_encoder"] = text.load(folder.with_name("words"), sampler.tokenizer).eval().requires_grad_(False)
    modules["unet"].requires_grad_(True).train()
    trainer = Trainer(folder, modules, schedule, worker)
    two = euler_schedule(generator.build_scheduler(), 2)
    count = schedule.batch // worker.world
    plain = round(count * PLAIN)

    def loss(step: int, rng: torch.Generator) -> dict[str, torch.Tensor]:
        batch = join(sampler.draw(plain, rng), draw_composed(encoded, count - plain, rng))
        # Every other row, so that both kinds are drawn a second time.
        return generator.losses(modules, batch, two, slice(step % 2, None, round(1 / AGAIN)))

    def sample(step: int) -> None:
        shown = generator.preview(trainer.ema, vae, sampler.tokenizer, steps=1, prompts=PREVIEW)
        save_grid(shown, 12, folder / f"{step}.png")

    trainer.run(loss, sample)
