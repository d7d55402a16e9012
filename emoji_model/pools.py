"""Pools of pictures for the scorers: drawings, and what the generator makes of the same prompts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F
from transformers import CLIPTokenizer

from emoji_model import coupling
from emoji_model.autoencoder import reconstruct
from emoji_model.evaluate import decode, draw_latents
from emoji_model.subjects import Subjects
from emoji_model.unet import LATENT_SHAPE
from pahi_rt.models.generators import Generator

SAMPLES, REALS = 16, 2
"""Generated pictures of each subject, and tints of each drawing, in a pool."""


@dataclass(frozen=True)
class Pool:
    """Pictures to train scorers on, or to measure them on."""

    real: Tensor
    """uint8 [subjects, styles * REALS, 3, H, W]: drawings through the autoencoder, on the same tints in all styles."""
    samples: Tensor
    """uint8 [subjects, SAMPLES, 3, H, W]: generated for the subject's label; the first half from unusual noise. Those
    at 2 k and 2 k + 1 are twins: their noises differ only in the style that they ask for."""
    errors: Tensor
    """float32 [subjects, SAMPLES]: mean squared error to the nearest of the subject's drawings on the same tint."""
    styles: Tensor
    """int64 [subjects, SAMPLES]: the style of that nearest drawing."""

    @property
    def usual_errors(self) -> Tensor:
        """float32 [subjects, SAMPLES]: the geometric mean error of the subject's pictures in the same style."""
        return style_means(self.errors.log(), self.styles).exp()


def join(pools: Sequence[Pool]) -> Pool:
    """One pool with the pictures of all `pools`."""
    return Pool(*(torch.cat(parts, 1) for parts in zip(*(vars(pool).values() for pool in pools), strict=True)))


def make(model: Generator, tokenizer: CLIPTokenizer, subjects: Subjects, rng: torch.Generator) -> Pool:
    """Draw a pool."""
    rows = [_draw_subject(model, tokenizer, subjects, subject, rng) for subject in range(len(subjects))]
    return Pool(*(torch.stack(parts) for parts in zip(*rows, strict=True)))


@torch.no_grad()
def _draw_subject(
    model: Generator, tokenizer: CLIPTokenizer, subjects: Subjects, subject: int, rng: torch.Generator
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    tints = 1.3 * torch.randn(REALS, coupling.COUNT, generator=rng)
    drawings = subjects.paint(subject, coupling.background(tints)).transpose(0, 1)
    real = reconstruct(model.decoder, drawings.flatten(0, 1))
    noise = twin_noise(unusual_noise(SAMPLES // 2, rng), rng)
    drawn = decode(model, draw_latents(model, tokenizer, [subjects.labels[subject]] * SAMPLES, noise, steps=1))
    wanted = subjects.paint(subject, coupling.background(coupling.read(noise)))
    errors, styles = (drawn[:, None] - wanted).square().mean((2, 3, 4)).min(1)
    return to_bytes(real), to_bytes(drawn), errors, styles


def style_means(scores: Tensor, styles: Tensor) -> Tensor:
    """[subjects, K] each -> for each picture the mean score of the subject's pictures in its style."""
    same = (styles[:, :, None] == styles[:, None]).to(scores.dtype)
    return (same @ scores[:, :, None]).squeeze(2) / same.sum(2)


def unusual_noise(count: int, rng: torch.Generator) -> Tensor:
    """Noise [count, C, h, w]. The second half is Gaussian; the first is smaller or larger, and shifted at low
    frequencies and along the functionals that the generator reads.

    A scorer knows nothing about pictures that it never saw, so it must see those that a prior may lead to.
    """
    noise = torch.randn(count, *LATENT_SHAPE, generator=rng)
    half = count // 2
    size = 0.6 + 0.6 * torch.rand(half, 1, 1, 1, generator=rng)
    coarse = torch.randn(half, coupling.CHANNELS, 4, 4, generator=rng)
    shift = F.interpolate(coarse, LATENT_SHAPE[1:], mode="bicubic")
    noise[:half] = noise[:half] * size + shift * torch.rand(half, 1, 1, 1, generator=rng)
    values = coupling.read(noise[:half])
    noise[:half] = coupling.write(noise[:half], values + torch.randn(values.shape, generator=rng))
    return noise


def twin_noise(noise: Tensor, rng: torch.Generator) -> Tensor:
    """Noise [B, C, h, w] -> [2 B, C, h, w]: each one, and the same with its style values moved to other styles.

    The values of Gaussian noise stay Gaussian.
    """
    values = coupling.read(noise)
    count = values[:, coupling.STYLE].shape[1]
    shifts = torch.randint(1, count, (len(noise), 1), generator=rng)
    values[:, coupling.STYLE] = values[:, coupling.STYLE].gather(1, (torch.arange(count) + shifts) % count)
    return torch.stack([noise, coupling.write(noise, values)], 1).flatten(0, 1)


def to_bytes(pictures: Tensor) -> Tensor:
    """Pictures in [0, 1] as uint8, rounded and not floored: floored pools taught a scorer that exactly 255 is real."""
    return (pictures.clamp(0, 1) * 255).round().to(torch.uint8)
