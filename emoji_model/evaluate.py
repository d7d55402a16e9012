"""Measures the generator: does it draw the prompt's concept, in the style that the noise asks for, and sharply?

Every generated picture is compared with all training pictures on the tint that its noise asks for. The nearest one
tells what was drawn. This is done twice, independently: between latents, and between pixels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch.nn import functional as F
from transformers import CLIPTokenizer

from emoji_model import coupling
from emoji_model.autoencoder import picture_psnr, psnr, reconstruct
from emoji_model.drawing import denoiser
from emoji_model.targets import apply_attributes, encode
from emoji_model.text import tokens
from emoji_model.unet import LATENT_SHAPE
from pahi_rt.evaluate.picture_metrics import edge_energy
from pahi_rt.models.generators import Generator
from pahi_rt.models.latents import decode_latents
from pahi_rt.models.sampling import sample_latents

HELD_OUT = 10_000_019
"""Seed of the evaluation's noises. Training uses other seeds."""

NOISES = 32
"""Number of noises for `recognition`: enough styles and tints that the share of each is not left to chance."""


@torch.no_grad()
def draw_latents(
    model: Generator, tokenizer: CLIPTokenizer, prompts: Sequence[str], noise: torch.Tensor, steps: int
) -> torch.Tensor:
    """Clean latents [B, C, h, w] of one prompt per noise."""
    schedule, parts = model.schedule(steps), []
    for start in range(0, len(noise), 64):
        part = slice(start, start + 64)
        text = model.encode_prompt(tokens(tokenizer, list(prompts[part]))).embeddings
        parts.append(sample_latents(denoiser(model.unet, text, schedule), noise[part], schedule))
    return torch.cat(parts)


@torch.no_grad()
def decode(model: Generator, latents: torch.Tensor) -> torch.Tensor:
    """Pictures [B, 3, H, W] in [0, 1]."""
    return torch.cat([decode_latents(model.decoder, part, model.latent_scale) for part in latents.split(32)])


def noises(count: int) -> torch.Tensor:
    """Held-out standard Gaussian noises [count, C, h, w]."""
    return torch.randn(count, *LATENT_SHAPE, generator=torch.Generator().manual_seed(HELD_OUT))


def recognition(
    model: Generator,
    tokenizer: CLIPTokenizer,
    labels: Sequence[str],
    pictures: torch.Tensor,
    steps: Sequence[int],
    seeds: int,
) -> dict[int, dict[str, float]]:
    """Share of pictures whose nearest training picture has the prompt's concept, and the noise's style; and sharpness.

    Args:
        labels: one plain prompt per concept.
        pictures: uint8 [concepts, styles, 4, H, W].
        steps: numbers of sampling steps, compared on the same noises; the keys of the result.
        seeds: pictures per concept. Each of NOISES noises draws its share of the concepts.
    """
    rows: dict[int, list[dict[str, torch.Tensor]]] = {count: [] for count in steps}
    for index, noise in enumerate(noises(NOISES)):
        values = coupling.read(noise[None])
        gallery = Gallery.make(model, pictures, values)
        chosen = [c for c in range(len(labels)) if (c + index) % (NOISES // seeds) == 0]
        for count in steps:
            prompts = [labels[c] for c in chosen]
            latents = draw_latents(model, tokenizer, prompts, noise.expand(len(chosen), *noise.shape), count)
            style = int(coupling.style_of(values))
            rows[count].append(gallery.recognise(latents, decode(model, latents), torch.tensor(chosen), style))
    return {count: _summary(parts) for count, parts in rows.items()}


@dataclass(frozen=True)
class Gallery:
    """Every training picture on one tint, in the order concept, style."""

    styles: int
    """Number of styles."""
    pixels: torch.Tensor
    """[concepts * styles, 3, H, W] in [0, 1]."""
    latents: torch.Tensor
    """[concepts * styles, C, h, w]."""

    @classmethod
    def make(cls, model: Generator, pictures: torch.Tensor, values: torch.Tensor) -> Gallery:
        """Make one from `pictures`, uint8 [concepts, styles, 4, H, W], on the tint that `values` [1, COUNT] ask for."""
        flat = pictures.flatten(0, 1)
        real = apply_attributes(flat, values.expand(len(flat), -1))
        return cls(pictures.shape[1], real, encode(model.decoder, real))

    def recognise(
        self, latents: torch.Tensor, drawn: torch.Tensor, concepts: torch.Tensor, style: int
    ) -> dict[str, torch.Tensor]:
        """Compare each generated picture with what its prompt and noise ask for; every value of the result is [B]."""
        row: dict[str, torch.Tensor] = {}
        for space, sample, real in (("latent", latents, self.latents), ("pixel", drawn, self.pixels)):
            nearest = torch.cdist(sample.flatten(1), real.flatten(1)).argmin(1)
            row[f"concept_{space}"] = (nearest // self.styles == concepts).float()
            row[f"style_{space}"] = (nearest % self.styles == style).float()
        wanted = self.pixels[concepts * self.styles + style]
        return row | {
            # Edge energy depends on contrast, so both pictures are on the same tint.
            "sharpness": edge_energy(drawn),
            "real_sharpness": edge_energy(wanted),
            "psnr_db": picture_psnr(drawn, wanted),
        }


def _summary(parts: list[dict[str, torch.Tensor]]) -> dict[str, float]:
    means = {key: float(torch.cat([part[key] for part in parts]).mean()) for key in parts[0]}
    means["sharpness"] /= means.pop("real_sharpness")
    return {key: round(value, 4) for key, value in means.items()}


def autoencoder_psnr(model: Generator, pictures: torch.Tensor) -> float:
    """PSNR in dB of encoding and decoding all pictures, each on a random tint."""
    flat = pictures.flatten(0, 1)
    values = torch.randn(len(flat), coupling.COUNT, generator=torch.Generator().manual_seed(HELD_OUT))
    real = apply_attributes(flat, values)
    return round(psnr(reconstruct(model.decoder, real), real), 2)


def explained_variance(
    model: Generator, tokenizer: CLIPTokenizer, labels: Sequence[str], steps: int, seeds: int
) -> dict[str, float]:
    """Share of the pixels' variance between seeds of one prompt that each attribute of the noise explains.

    It is the adjusted R^2 of a linear regression of all pixels on the attribute, pooled over prompts. `all` uses every
    attribute together.
    """
    noise = noises(seeds)
    values = coupling.read(noise)
    style = F.one_hot(coupling.style_of(values), 3).float()
    tint = coupling.background(values)
    attributes = {"style": style, "tint": tint}
    attributes["all"] = torch.cat([style, tint], 1)
    left, total = dict.fromkeys(attributes, 0.0), 0.0
    for label in labels:
        drawn = decode(model, draw_latents(model, tokenizer, [label] * seeds, noise, steps)).flatten(1)
        total += float((drawn - drawn.mean(0)).square().sum()) / (seeds - 1)
        for name, predictors in attributes.items():
            left[name] += _residual(drawn, predictors)
    return {name: round(1 - value / total, 4) for name, value in left.items()}


def _residual(samples: torch.Tensor, predictors: torch.Tensor) -> float:
    """Unbiased residual variance of a least-squares fit with intercept, summed over columns."""
    design = torch.cat([torch.ones(len(samples), 1), predictors], 1).double()
    basis, sizes, _ = torch.linalg.svd(design, full_matrices=False)
    basis = basis[:, sizes > 1e-8 * sizes[0]].float()
    residual = samples - basis @ (basis.T @ samples)
    return float(residual.square().sum()) / (len(samples) - basis.shape[1])
