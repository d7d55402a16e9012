"""Stage `decoder`: fine-tune the decoder on latents that the generator draws.

Regression leaves the generator's latents a little smooth, and latents hold too little for sharp edges. A decoder that
is trained on these latents, with a small adversary beside the reconstruction loss, restores the edges.
"""

from __future__ import annotations

import random
from pathlib import Path

import torch
from diffusers import AutoencoderTiny
from torch import nn
from torch.nn import functional as F
from transformers import CLIPTokenizer

from emoji_model import coupling, drawing, generator
from emoji_model.autoencoder import reconstruction_loss
from emoji_model.painting import accessories, paint
from emoji_model.pictures import save_grid
from emoji_model.scenes import Author, Scene
from emoji_model.targets import encode
from emoji_model.text import tokens
from emoji_model.trainer import Schedule, Trainer, Worker
from emoji_model.unet import LATENT_SHAPE
from pahi_rt.evaluate.picture_metrics import laplacian

SCHEDULE = Schedule(steps=1200, batch=16, learning_rate=5e-4, warmup=30, decay=0.5, sample_every=150, save_every=100)
ADVERSARY = 0.2
"""Weight of the adversarial term beside the reconstruction."""
EDGES = 6.0
"""Weight of `edge_loss`."""
REAL = 4
"""One in this many latents comes from the encoder, so that encoder and decoder stay an autoencoder."""


def edge_loss(output: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """Difference of the strength of edges: the mean absolute Laplacian over 8x8 pixels, wherever in them an edge is.

    A pixel loss prefers a soft edge to a sharp one that is a pixel off. This loss does not.
    """
    drawn, wanted = (F.avg_pool2d(laplacian(pictures).abs(), 8, 6) for pictures in (output, target))
    return F.l1_loss(drawn, wanted)


class WithEdges(nn.Module):
    """Pictures [B, 3, H, W] in [0, 1] -> [B, 6, H, W]: colours in [-1, 1], and their Laplacian."""

    def forward(self, pictures: torch.Tensor) -> torch.Tensor:
        return torch.cat([pictures * 2 - 1, F.pad(laplacian(pictures), (1, 1, 1, 1))], 1)


def build_adversary() -> nn.Sequential:
    """A small PatchGAN: 128x128 pictures -> 16x16 logits, high for drawings and low for decoded pictures."""
    widths = (6, 32, 64, 96)
    layers: list[nn.Module] = [WithEdges()]
    for narrow, wide in zip(widths, widths[1:], strict=False):
        layers += [nn.Conv2d(narrow, wide, 4, stride=2, padding=1), nn.LeakyReLU(0.2)]
    return nn.Sequential(*layers, nn.Conv2d(widths[-1], 1, 3, padding=1))


def frozen(module: nn.Module, inputs: torch.Tensor) -> torch.Tensor:
    """The output of `module`, differentiable in its input but not in its weights."""
    weights = {name: p.detach() for name, p in module.named_parameters()}
    return torch.func.functional_call(module, weights, (inputs,))


@torch.no_grad()
def draw(
    modules: nn.ModuleDict, author: Author, pictures: torch.Tensor, tokenizer: CLIPTokenizer, count: int,
    rng: torch.Generator, steps: int,
) -> tuple[torch.Tensor, torch.Tensor]:  # fmt: skip
    """Generated latents [count, C, h, w], of plain labels and of as many scenes, and the pictures that caption and
    noise ask for."""
    python_rng = random.Random(int(torch.randint(2**62, (), generator=rng)))
    scenes = [Scene((author.thing(python_rng),)) if n % 2 else author.draw(python_rng) for n in range(count)]
    texts = [
        author.concepts[scene.things[0].concept].label if n % 2 else author.caption(scene, python_rng)
        for n, scene in enumerate(scenes)
    ]
    noise = torch.randn(count, *LATENT_SHAPE, generator=rng)
    values, worn = coupling.read(noise), accessories(author.concepts, pictures)
    asked = zip(coupling.style_of(values).tolist(), scenes, coupling.background(values), strict=True)
    wanted = [
        paint(scene, pictures, worn, ground)[style if scene.style is None else scene.style]
        for style, scene, ground in asked
    ]
    text = modules["text_encoder"](tokens(tokenizer, texts)).last_hidden_state
    return drawing.draw(modules["unet"], text, noise, steps), torch.stack(wanted)


def train(
    worker: Worker, folder: Path, vae: AutoencoderTiny, author: Author, pictures: torch.Tensor,
    tokenizer: CLIPTokenizer, schedule: Schedule,
) -> None:  # fmt: skip
    """Train for the generator whose stage left its checkpoint beside `folder`.

    Leaves checkpoint.pt (the whole autoencoder under `vae`) and samples in `folder`.
    """
    # Loaded here: a fork server hands over at most 256 tensors.
    modules = generator.load(folder.with_name("generator"), tokenizer)
    vae.decoder.requires_grad_(True)
    vae.to(memory_format=torch.channels_last)
    trained = nn.ModuleDict({"vae": vae, "adversary": build_adversary()})
    trainer = Trainer(folder, trained, schedule, worker)

    def loss(step: int, rng: torch.Generator) -> dict[str, torch.Tensor]:
        count = schedule.batch // worker.world
        latents, wanted = draw(modules, author, pictures, tokenizer, count, rng, steps=1 + step % 2)
        latents = torch.cat([encode(vae, wanted[: count // REAL]), latents[count // REAL :]])
        output = (vae.decoder(latents.contiguous(memory_format=torch.channels_last)) + 1) / 2
        adversary = trained["adversary"]
        real, fake = adversary(wanted), adversary(output.detach())
        return {
            "reconstruction": reconstruction_loss(output, wanted),
            "edges": EDGES * edge_loss(output, wanted),
            # Compares patches of the same picture, so that what both show, mostly flat colour, cancels.
            "fooling": ADVERSARY * F.softplus(real.detach() - frozen(adversary, output)).mean(),
            "adversary": F.softplus(fake - real).mean(),
        }

    def sample(step: int) -> None:
        shown = generator.preview(modules, trainer.ema["vae"], tokenizer)
        save_grid(shown, 12, folder / f"{step}.png")

    trainer.run(loss, sample)
