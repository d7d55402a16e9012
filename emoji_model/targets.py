"""Latents of every concept in every style: on random tints, which are targets, and on tint 0, which is content."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields
from pathlib import Path

import torch
from diffusers import AutoencoderTiny

from emoji_model import coupling
from emoji_model.render import composite
from emoji_model.trainer import save_atomically

VARIANTS = 16
"""Tints of each concept."""


@dataclass(frozen=True)
class Targets:
    """Latents of all concepts, and the noise values that ask for them."""

    latents: torch.Tensor
    """float16 [concepts, styles, VARIANTS, C, h, w]."""
    plain: torch.Tensor
    """float16 [concepts, styles, C, h, w]: on tint 0."""
    values: torch.Tensor
    """float32 [concepts, VARIANTS, COUNT]: values of the functionals that ask for each variant, in every style. The
    entries of the style are arbitrary."""


def apply_attributes(pictures: torch.Tensor, values: torch.Tensor) -> torch.Tensor:
    """Put pictures, uint8 RGBA [B, 4, H, W], on the tints of `values` [B, COUNT]: float [B, 3, H, W] in [0, 1]."""
    return composite(pictures, coupling.background(values))


@torch.no_grad()
def encode(vae: AutoencoderTiny, pictures: torch.Tensor) -> torch.Tensor:
    """Float pictures [N, 3, H, W] in [0, 1] -> latents [N, C, h, w]."""
    # Eight at a time, channels last, take less than half the time of 32 in the usual order.
    parts = (part.contiguous(memory_format=torch.channels_last) for part in pictures.split(8))
    return torch.cat([vae.encoder(part * 2 - 1).contiguous() for part in parts])


def silent(latents: torch.Tensor) -> torch.Tensor:
    """Latents [N, C, h, w] with all functionals set to 0: a change of two percent of their size.

    So the second step, which sees the noise through a drawing, reads the same values as the first.
    """
    return coupling.write(latents, torch.zeros(len(latents), coupling.COUNT))


def make(vae: AutoencoderTiny, pictures: torch.Tensor, seed: int) -> Iterator[Targets]:
    """Encode VARIANTS of each picture (uint8 [concepts, styles, 4, H, W]), one concept at a time."""
    rng = torch.Generator().manual_seed(seed)
    for concept in pictures:
        # The same values for all styles, so that a variant has one tint in all of them.
        values = torch.randn(VARIANTS, coupling.COUNT, generator=rng)
        tints = torch.cat([values, torch.zeros(1, coupling.COUNT)])
        shown = concept.repeat_interleave(len(tints), 0)
        latents = silent(encode(vae, apply_attributes(shown, tints.repeat(len(concept), 1))))
        every = latents.unflatten(0, (len(concept), len(tints))).half()
        yield Targets(every[:, :-1], every[:, -1], values)


def save(parts: list[Targets], path: Path) -> None:
    """Save the targets of all concepts, one part for each concept, as one file."""
    save_atomically({f.name: torch.stack([getattr(part, f.name) for part in parts]) for f in fields(Targets)}, path)


def load(path: Path) -> Targets:
    """Load what `save` wrote."""
    return Targets(**torch.load(path, weights_only=True))
