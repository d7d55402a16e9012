"""How good the generator is: does it draw the prompt's concept, in the style that the noise asks for, and sharply?

Every picture is compared with all training pictures, drawn on the tint that its noise asks for; the nearest
one says what was drawn. Twice, independently: between latents, and between pixels.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch.nn import functional as F
from transformers import CLIPTokenizer

from pahi_rt.train.emoji import coupling
from pahi_rt.train.emoji.autoencoder import laplacian, psnr, reconstruct
from pahi_rt.train.emoji.generator import LATENT_SHAPE, denoiser
from pahi_rt.train.emoji.targets import apply_attributes, encode
from pahi_rt.train.emoji.text import tokens
from pahi_rt.train.generators import Generator, decode_latents, sample_latents

HELD_OUT = 10_000_019
"""First seed of the evaluation's noises; training draws its seeds from other numbers."""


@torch.no_grad()
def draw_latents(
    model: Generator, words: CLIPTokenizer, prompts: Sequence[str], noise: torch.Tensor, steps: int
) -> torch.Tensor:
    """Clean latents [B, C, h, w] of one prompt per noise."""
    schedule, parts = model.schedule(steps), []
    for start in range(0, len(noise), 64):
        part = slice(start, start + 64)
        text = model.encode_prompt(tokens(words, list(prompts[part])))
        parts.append(sample_latents(denoiser(model.unet, text, schedule), noise[part], schedule))
    return torch.cat(parts)


@torch.no_grad()
def decode(model: Generator, latents: torch.Tensor) -> torch.Tensor:
    """Pictures [B, 3, H, W] in [0, 1]."""
    return torch.cat([decode_latents(model.decoder, part) for part in latents.split(32)])


def noises(count: int) -> torch.Tensor:
    """Held-out standard Gaussian noises [count, C, h, w]."""
    return torch.randn(count, *LATENT_SHAPE, generator=torch.Generator().manual_seed(HELD_OUT))


def recognition(
    model: Generator, words: CLIPTokenizer, labels: Sequence[str], pictures: torch.Tensor, steps: int, seeds: int
) -> dict[str, float]:
    """Share of pictures whose nearest training picture has the prompt's concept and the noise's style.

    Args:
        labels: one plain prompt per concept.
        pictures: uint8 [concepts, styles, 4, H, W].
        seeds: held-out noises per concept.
    """
    rows = [_recognise(model, words, labels, pictures, noise, steps) for noise in noises(seeds)]
    return {key: round(sum(row[key] for row in rows) / len(rows), 4) for key in rows[0]}


def _recognise(
    model: Generator,
    words: CLIPTokenizer,
    labels: Sequence[str],
    pictures: torch.Tensor,
    noise: torch.Tensor,
    steps: int,
) -> dict[str, float]:
    concepts, styles = pictures.shape[:2]
    values = coupling.read(noise[None])
    real = apply_attributes(pictures.flatten(0, 1), values.expand(concepts * styles, -1))
    latents = draw_latents(model, words, labels, noise.expand(concepts, *noise.shape), steps)
    drawn = decode(model, latents)
    row: dict[str, float] = {}
    for space, sample, gallery in (("latent", latents, encode(model.decoder, real)), ("pixel", drawn, real)):
        nearest = torch.cdist(sample.flatten(1), gallery.flatten(1)).argmin(1)
        row[f"concept_{space}"] = float((nearest // styles == torch.arange(concepts)).float().mean())
        row[f"style_{space}"] = float((nearest % styles == coupling.style_of(values)).float().mean())
    wanted = real.unflatten(0, (concepts, styles))[:, coupling.style_of(values)[0]]
    row["sharpness"] = float(sharpness(drawn).mean() / sharpness(wanted).mean())
    row["psnr_db"] = psnr(drawn, wanted)
    return row


def sharpness(pictures: torch.Tensor) -> torch.Tensor:
    """Variance of the Laplacian of the luminance, [B], for pictures [B, 3, H, W] in [0, 1]."""
    grey = (pictures * torch.tensor([0.299, 0.587, 0.114]).view(1, 3, 1, 1)).sum(1, keepdim=True)
    return laplacian(grey).var((1, 2, 3))


def autoencoder_psnr(model: Generator, pictures: torch.Tensor) -> float:
    """PSNR in dB of encode-decode over all pictures, each tinted at random."""
    flat = pictures.flatten(0, 1)
    values = torch.randn(len(flat), coupling.COUNT, generator=torch.Generator().manual_seed(HELD_OUT))
    real = apply_attributes(flat, values)
    return round(psnr(reconstruct(model.decoder, real), real), 2)


def explained_variance(
    model: Generator, words: CLIPTokenizer, labels: Sequence[str], steps: int, seeds: int
) -> dict[str, float]:
    """Share of the pixels' variance over seeds of one prompt that each attribute of the noise explains.

    Adjusted R^2 of a linear regression of all pixels on the attribute, pooled over prompts; `all` uses
    every attribute together.
    """
    noise = noises(seeds)
    values = coupling.read(noise)
    style = F.one_hot(coupling.style_of(values), 3).float()
    tint = coupling.background(values)
    attributes = {"style": style, "tint": tint}
    attributes["all"] = torch.cat([style, tint], 1)
    left, total = dict.fromkeys(attributes, 0.0), 0.0
    for label in labels:
        drawn = decode(model, draw_latents(model, words, [label] * seeds, noise, steps)).flatten(1)
        total += float((drawn - drawn.mean(0)).square().sum()) / (seeds - 1)
        for name, predictors in attributes.items():
            left[name] += _residual(drawn, predictors)
    return {name: round(1 - value / total, 4) for name, value in left.items()}


def _residual(samples: torch.Tensor, predictors: torch.Tensor) -> float:
    """Unbiased residual variance, summed over columns, of a least-squares fit with intercept."""
    design = torch.cat([torch.ones(len(samples), 1), predictors], 1).double()
    basis, sizes, _ = torch.linalg.svd(design, full_matrices=False)
    basis = basis[:, sizes > 1e-8 * sizes[0]].float()
    residual = samples - basis @ (basis.T @ samples)
    return float(residual.square().sum()) / (len(samples) - basis.shape[1])
