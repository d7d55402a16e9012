"""Drawing latents with the UNet in one step or two, and the errors of what it draws."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import torch
from diffusers import EulerDiscreteScheduler
from torch import nn
from torch.nn import functional as F

from emoji_model.sampler import Batch, of_style
from pahi_rt.models.components import turbo_scheduler
from pahi_rt.models.sampling import Schedule as Sampling
from pahi_rt.models.sampling import euler_schedule, sample_latents, take_step

BETA = 0.1
"""Errors below BETA count by their square, others by their size. Where the noise leaves two styles nearly equal, the
median is one of them; the mean would be a blur."""


def build_scheduler() -> EulerDiscreteScheduler:
    """A scheduler with SD-Turbo's noise levels, for a network that predicts the clean latents."""
    return turbo_scheduler("sample")


@cache
def sampling(steps: int) -> Sampling:
    """The noise levels of one step or two, with the scheduler that the pipeline ships."""
    return euler_schedule(build_scheduler(), steps)


def denoiser(unet: nn.Module, text: torch.Tensor, schedule: Sampling) -> Callable[[torch.Tensor, int], torch.Tensor]:
    """The UNet as a function of the scaled latents and the index of the step, with all other inputs fixed."""

    def denoise(latents: torch.Tensor, step: int) -> torch.Tensor:
        timestep = torch.tensor(schedule.timesteps[step])
        return unet(latents.contiguous(memory_format=torch.channels_last), timestep, text, return_dict=False)[0]

    return denoise


def scale(sample: torch.Tensor, sigma: float) -> torch.Tensor:
    """Scale a sample of noise level `sigma` to the size that the UNet reads."""
    return sample / (sigma**2 + 1) ** 0.5


@torch.no_grad()
def draw(unet: nn.Module, text: torch.Tensor, noise: torch.Tensor, steps: int) -> torch.Tensor:
    """Latents [B, C, h, w] for text embeddings [B, T, D] and noise of their own shape."""
    schedule = sampling(steps)
    return sample_latents(denoiser(unet, text, schedule), noise, schedule)


def nearest_style(drawn: torch.Tensor, styles: torch.Tensor) -> torch.Tensor:
    """For drawn latents [B, C, h, w], the nearest ones among the real `styles` [B, styles, C, h, w]: [B, C, h, w].

    They are the targets of the second step, which refines what the first one drew.
    """
    errors = (styles - drawn[:, None]).square().mean((2, 3, 4))
    return of_style(styles, errors.argmin(1))


def losses(unet: nn.Module, text: torch.Tensor, batch: Batch, again: slice | None) -> dict[str, torch.Tensor]:
    """Errors of the first step on the batch, and of the second step on the rows `again`, if there are any."""
    two = sampling(2)
    first = denoiser(unet, text, two)(scale(batch.noise * two.noise_scale, two.sigmas[0]), 0)
    terms = {"one": F.smooth_l1_loss(first, batch.latents, beta=BETA)}
    if again:
        start, noise = first[again].detach(), batch.noise[again]
        noisy = take_step(two, 0, noise * two.noise_scale, start, noise)
        second = denoiser(unet, text[again], two)(scale(noisy, two.sigmas[1]), 1)
        terms["two"] = F.smooth_l1_loss(second, nearest_style(start, batch.styles[again]), beta=BETA)
    return terms
