"""Latents of every concept in every style, on random tints: what the generator regresses to."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from diffusers import AutoencoderTiny

from emoji_model import coupling
from emoji_model.render import composite
from emoji_model.trainer import save_atomically

VARIANTS = 16


@dataclass(frozen=True)
class Targets:
    latents: torch.Tensor
    """float16 [concepts, styles, VARIANTS, C, h, w]."""
    values: torch.Tensor
    """float32 [concepts, VARIANTS, COUNT]: functionals that ask for each variant, in every style; the style's and the
    choice's entries are free."""


def apply_attributes(pictures: torch.Tensor, values: torch.Tensor) -> torch.Tensor:
    """Tint as the functionals say: uint8 RGBA [B, 4, H, W], [B, COUNT] -> float [B, 3, H, W] in [0, 1]."""
    return composite(pictures, coupling.background(values))


@torch.no_grad()
def encode(vae: AutoencoderTiny, pictures: torch.Tensor) -> torch.Tensor:
    """Latents of float pictures [N, 3, H, W] in [0, 1]."""
    return torch.cat([vae.encoder(part * 2 - 1) for part in pictures.split(32)])


def make(vae: AutoencoderTiny, pictures: torch.Tensor, seed: int) -> Iterator[Targets]:
    """Encode VARIANTS of each picture (uint8 [concepts, styles, 4, H, W]), one concept at a time.

    The latents' own functionals are set to zero, a change of two percent of their size: the second step, which sees
    the noise through a drawing, then reads the same values as the first one.
    """
    generator = torch.Generator().manual_seed(seed)
    for concept in pictures:
        # The same for all styles, so that a variant shows one tint in all of them.
        values = torch.randn(VARIANTS, coupling.COUNT, generator=generator)
        shown = concept.repeat_interleave(VARIANTS, 0)
        latents = encode(vae, apply_attributes(shown, values.repeat(len(concept), 1)))
        latents = coupling.write(latents, torch.zeros(len(latents), coupling.COUNT))
        yield Targets(latents.unflatten(0, (len(concept), VARIANTS)).half(), values)


def save(parts: list[Targets], path: Path) -> None:
    latents, values = (torch.stack([getattr(part, name) for part in parts]) for name in ("latents", "values"))
    save_atomically({"latents": latents, "values": values}, path)


def load(path: Path) -> Targets:
    return Targets(**torch.load(path, weights_only=True))
