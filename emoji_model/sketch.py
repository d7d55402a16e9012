"""Stage `sketch`: the UNet learns to draw what a text embedding holds, before there is a text encoder.

A UNet that learns from captions learns its few hundred drawings by heart, and no rule that carries over to a thing that
it has seen less often, or at half size. Here it is told what to draw. The sketcher packs the content of a picture, in
all drawing styles, into the last tokens of an embedding, one for each cell of a 4x4 grid. The UNet learns to unpack
them, in the style that the noise asks for. Half of each batch are collages of cells from different pictures: nothing in
them can be recognised, so only unpacking helps. Then the text encoder learns to write such sketches (words.py).
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch
from diffusers import AutoencoderTiny
from torch import nn
from torch.nn import functional as F

from emoji_model import coupling
from emoji_model.drawing import draw, losses
from emoji_model.pictures import save_grid
from emoji_model.sampler import Batch, Sampler, join, of_style
from emoji_model.sources import STYLES
from emoji_model.targets import silent
from emoji_model.text import GRID, MARKS, PER_STYLE, WIDTH
from emoji_model.trainer import Schedule, Trainer, Worker, averaged
from emoji_model.unet import build_unet, pin

SCHEDULE = Schedule(steps=4000, batch=48, learning_rate=8e-4, warmup=100, decay=0.4, sample_every=500, bfloat16=True)
COLLAGES = 0.5
"""Share of a batch."""
SIDE = coupling.HEIGHT // GRID
"""The side of a cell, in values of a latent."""
BLANK = F.pad(torch.tensor([MARKS**0.5]), (WIDTH - MARKS, MARKS - 1))
"""The first token of every embedding. It holds nothing: a head that looks at it takes no part."""


class Sketcher(nn.Module):
    """Content [B, styles * C + 1, h, w] -> sketch [B, CELLS, WIDTH]: PER_STYLE numbers of each style, tint, MARKS.

    Every style is packed in the same way and apart from the others. Packed together, all that was learned at first was
    their mean: the UNet ignored the style because the sketch did not hold it, and the other way round.
    """

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(coupling.CHANNELS, 48, 3, padding=1), nn.SiLU(), nn.Conv2d(48, PER_STYLE, SIDE, SIDE)
        )

    def forward(self, content: torch.Tensor) -> torch.Tensor:
        styles = content[:, :-1].unflatten(1, (len(STYLES), -1))
        held = self.layers(styles.flatten(0, 1)).flatten(2).transpose(1, 2)
        held = F.layer_norm(held.float(), (PER_STYLE,)).unflatten(0, styles.shape[:2]).transpose(1, 2).flatten(2)
        tinted = 2 * F.avg_pool2d(content[:, -1:], SIDE).flatten(2).transpose(1, 2) - 1
        # Of the size that a layer norm gives, as the text encoder's embeddings have.
        places = MARKS**0.5 * torch.eye(MARKS)[1:].expand(len(held), -1, -1)
        return torch.cat([held, tinted, places], -1)


def embed(sketcher: nn.Module, content: torch.Tensor, length: int, rng: torch.Generator) -> torch.Tensor:
    """Content [B, styles * C + 1, h, w] -> text embedding [B, length, WIDTH], with noise in the tokens of words."""
    words = torch.randn(len(content), length - MARKS, WIDTH - MARKS, generator=rng)
    return torch.cat([BLANK.expand(len(content), 1, -1), F.pad(words, (0, MARKS)), sketcher(content)], 1)


def collage(batch: Batch, rng: torch.Generator) -> Batch:
    """The batch with its cells shuffled among all pictures, on tint 0. Its captions and codes are no longer true."""
    parts = F.unfold(batch.content, SIDE, stride=SIDE).transpose(1, 2)
    flat = parts.flatten(0, 1)
    shuffled = flat[torch.randperm(len(flat), generator=rng)].view_as(parts).transpose(1, 2)
    content = F.fold(shuffled, batch.content.shape[-2:], SIDE, stride=SIDE)
    styles = content[:, :-1].unflatten(1, batch.styles.shape[1:3])
    styles = silent(styles.flatten(0, 1)).view_as(styles)
    values = coupling.read(batch.noise)
    values[:, coupling.TINT] = 0
    latents = of_style(styles, coupling.style_of(values))
    return replace(batch, content=content, noise=coupling.write(batch.noise, values), latents=latents, styles=styles)


def train(worker: Worker, folder: Path, sampler: Sampler, vae: AutoencoderTiny, schedule: Schedule) -> None:
    """Train sketcher and UNet.

    Leaves checkpoint.pt, metrics.jsonl and grids (16 pictures, each followed by five drawn from its sketch) in
    `folder`.
    """
    sketcher, unet = Sketcher(), build_unet()
    trainer = Trainer(folder, nn.ModuleDict({"sketcher": sketcher, "unet": unet}).train(), schedule, worker)
    count, length = schedule.batch // worker.world, sampler.tokenizer.model_max_length
    mixed = round(count * COLLAGES)

    def loss(step: int, rng: torch.Generator) -> dict[str, torch.Tensor]:
        pin(unet)
        batch = join(sampler.draw(count - mixed, rng), collage(sampler.draw(mixed, rng), rng))
        return losses(unet, embed(sketcher, batch.content, length, rng), batch, again=None)

    def sample(step: int) -> None:
        save_grid(preview(trainer.ema, vae, sampler), 12, folder / f"{step}.png")

    trainer.run(loss, sample)


@torch.no_grad()
def preview(modules: nn.ModuleDict, vae: AutoencoderTiny, sampler: Sampler) -> torch.Tensor:
    """Pictures [96, 3, H, W]: 16 as they are, each followed by five that were drawn from its sketch."""
    rng, seeds = torch.Generator().manual_seed(0), 5
    batch = sampler.draw(16, rng)
    length = sampler.tokenizer.model_max_length
    text = embed(modules["sketcher"], batch.content, length, rng).repeat_interleave(seeds, 0)
    noise = torch.randn(len(text), *batch.noise.shape[1:], generator=rng)
    drawn = draw(modules["unet"], text, noise, steps=1).unflatten(0, (-1, seeds))
    rows = torch.cat([batch.latents[:, None], drawn], 1).flatten(0, 1)
    return (vae.decoder(rows) + 1) / 2


def load(folder: Path) -> Sketcher:
    """The trained sketcher (moving average of the weights), frozen."""
    sketcher = Sketcher()
    sketcher.load_state_dict(averaged(folder, "sketcher"))
    return sketcher.eval().requires_grad_(False)
