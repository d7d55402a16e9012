"""Latents -> pictures, and the scales between them. Exported graphs call `decode_latents` too."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor


def decode_latents(decoder: Any, latents: Tensor, scale: LatentScale, dtype: torch.dtype | None = None) -> Tensor:
    """Latents [B, C, h, w] -> pictures [B, 3, H, W] in [0, 1], by an AutoencoderTiny or AutoencoderKL.

    The decoder computes in `dtype`, by default in the type of the latents. Pictures have the type of the latents.
    """
    unscaled = scale.undo(latents).to(dtype or latents.dtype)
    pictures: Tensor = decoder.decode(unscaled).sample.to(latents.dtype)
    return (pictures / 2 + 0.5).clamp(0, 1)


@dataclass(frozen=True)
class LatentScale:
    """How the autoencoder's latents were scaled for the UNet, to a standard deviation of about 1."""

    factor: float
    mean: tuple[float, ...] | None = None
    """Mean of each channel. None, with `std`, if all channels are scaled alike."""
    std: tuple[float, ...] | None = None
    """Standard deviation of each channel."""

    def undo(self, latents: Tensor) -> Tensor:
        """The UNet's latents [B, C, h, w] -> the autoencoder's."""
        if self.mean is None or self.std is None:
            return latents / self.factor
        mean, std = (latents.new_tensor(values).view(1, -1, 1, 1) for values in (self.mean, self.std))
        return latents * std / self.factor + mean


def latent_scale(config: Any, is_sdxl: bool) -> LatentScale:
    """The scale of an autoencoder's latents, from its configuration, as diffusers' pipelines read it.

    Only the SDXL pipeline reads `latents_mean` and `latents_std`. None of the supported ones reads `shift_factor`.
    """
    mean, std = config.get("latents_mean"), config.get("latents_std")
    if is_sdxl and mean is not None and std is not None:
        return LatentScale(config.scaling_factor, tuple(mean), tuple(std))
    return LatentScale(config.scaling_factor)


def decoder_scale(config: Any) -> int:
    """Pixels per latent value along a side; 8 for the decoders of Stable Diffusion."""
    scale: int = config.get("upsampling_scaling_factor", 2) ** (len(config.block_out_channels) - 1)
    return scale
