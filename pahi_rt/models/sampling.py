"""From noise to clean latents in a few deterministic steps: eq. (1) of the paper, and what comes between its steps.

The noise that comes in is all there is. Euler's method needs no more. Two schedulers of diffusers draw fresh noise
between their steps, which changes nothing for one step; for more steps (as `differences.py` lists them),

    EulerAncestral (SDXL-Turbo) becomes Euler: nothing is added, and the noise that is left is kept;
    LCM, which must have noise added, is given the noise that came in again, in every step.

A learned prior's x_T is that noise in the second case, too.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from math import isfinite
from typing import Any

from diffusers import EulerAncestralDiscreteScheduler, EulerDiscreteScheduler, LCMScheduler
from torch import Tensor

from pahi_rt.errors import ModelError
from pahi_rt.models.foreign import quiet_schedulers, reason

PURE_NOISE = 0.9
"""Share of the training's timesteps beyond which a sampler may start: before it, latents are not noise alone."""


@dataclass(frozen=True)
class Schedule:
    """A few-step sampler as plain numbers. At each noise level, latents are alpha * clean + sigma * noise."""

    timesteps: tuple[float, ...]
    alphas: tuple[float, ...]
    """One more than timesteps: before each step, and after the last one."""
    sigmas: tuple[float, ...]
    """Likewise."""
    noise_scale: float
    """Standard deviation of the first latents."""
    prediction_type: str
    boundary: tuple[tuple[float, float], ...] = ()
    """c_skip and c_out of each step of a consistency model (LCM); empty for Euler's method."""

    @property
    def steps(self) -> int:
        return len(self.timesteps)


def make_schedule(scheduler: Any, steps: int) -> Schedule:
    """What `scheduler` does in `steps` steps, made deterministic. Raises ModelError if it cannot."""
    make = lcm_schedule if isinstance(scheduler, LCMScheduler) else euler_schedule
    try:
        schedule = make(scheduler, steps)
    except Exception as error:  # settings are other people's, and schedulers check few of them
        fix = "ask for fewer steps, or use a model of the few-step kind"
        raise ModelError(f"the model's scheduler cannot sample in {steps} steps: {reason(error)}", fix=fix) from error
    _check_numbers(schedule)
    _check_start(schedule, scheduler)
    return schedule


def _check_start(schedule: Schedule, scheduler: Any) -> None:
    trained = scheduler.config.num_train_timesteps
    start = f"timestep {schedule.timesteps[0]:g} of {trained}"
    is_noise = schedule.timesteps[0] >= PURE_NOISE * trained
    if is_continuous(scheduler):  # its timesteps are logarithms of noise levels
        kept = float(scheduler.alphas_cumprod[int(PURE_NOISE * trained)])
        start = f"noise level {schedule.sigmas[0]:.3g}"
        is_noise = schedule.sigmas[0] ** 2 >= (1 - kept) / kept
    if not is_noise:
        raise ModelError(
            f"with {schedule.steps} steps the model's scheduler starts at {start}, not at pure noise",
            fix='set timestep_spacing to "trailing" in scheduler_config.json, as few-step models need',
        )


def _check_numbers(schedule: Schedule) -> None:
    numbers = (*schedule.timesteps, *schedule.alphas, *schedule.sigmas, schedule.noise_scale)
    if not all(map(isfinite, numbers)):
        raise ModelError("the noise levels of the model's scheduler are not finite", fix="check scheduler_config.json")
    if schedule.prediction_type == "epsilon" and not all(schedule.alphas):
        raise ModelError(
            "the model's scheduler starts without any signal, where nothing can be told from the noise predicted",
            fix="set rescale_betas_zero_snr to false in scheduler_config.json, or use a UNet of v_prediction",
        )


def is_continuous(scheduler: Any) -> bool:
    """Whether the UNet is told the logarithm of the noise level instead of one of the training's timesteps."""
    config = scheduler.config
    kinds = isinstance(scheduler, EulerDiscreteScheduler), config.get("timestep_type"), config.prediction_type
    return kinds == (True, "continuous", "v_prediction")


def as_euler(scheduler: Any) -> EulerDiscreteScheduler:
    """A scheduler of Euler's method with the noise levels of `scheduler`, which is of either Euler kind."""
    config = dict(scheduler.config)
    if isinstance(scheduler, EulerAncestralDiscreteScheduler):
        # Its file may hold settings which only the other kind obeys.
        obeyed = inspect.signature(EulerAncestralDiscreteScheduler).parameters
        config = {name: value for name, value in config.items() if name in obeyed}
    return EulerDiscreteScheduler.from_config(config)


def euler_schedule(scheduler: Any, steps: int) -> Schedule:
    """Euler's method over the noise levels that `scheduler`, of either Euler kind, has in `steps` steps."""
    fresh = as_euler(scheduler)
    with quiet_schedulers():
        fresh.set_timesteps(steps)
    return Schedule(
        timesteps=tuple(float(t) for t in fresh.timesteps),
        alphas=(1.0,) * (steps + 1),
        sigmas=tuple(float(sigma) for sigma in fresh.sigmas[: steps + 1]),
        noise_scale=float(fresh.init_noise_sigma),
        prediction_type=fresh.config.prediction_type,
    )


def lcm_schedule(scheduler: LCMScheduler, steps: int) -> Schedule:
    """What `scheduler` does in `steps` steps of a latent consistency model."""
    fresh = LCMScheduler.from_config(scheduler.config)
    fresh.set_timesteps(steps)
    timesteps = [int(t) for t in fresh.timesteps]
    squares = [float(fresh.alphas_cumprod[t]) for t in timesteps]
    return Schedule(
        timesteps=tuple(map(float, timesteps)),
        alphas=(*(square**0.5 for square in squares), 1.0),
        sigmas=(*((1 - square) ** 0.5 for square in squares), 0.0),
        noise_scale=float(fresh.init_noise_sigma),
        prediction_type=fresh.config.prediction_type,
        boundary=tuple(fresh.get_scalings_for_boundary_condition_discrete(t) for t in timesteps),
    )


def predict_original(schedule: Schedule, step: int, latents: Tensor, output: Tensor) -> Tensor:
    """Eq. (1): the clean latents that a UNet's output stands for."""
    alpha, sigma = schedule.alphas[step], schedule.sigmas[step]
    if schedule.prediction_type == "epsilon":
        return (latents - sigma * output) / alpha
    if schedule.prediction_type == "v_prediction":
        square = alpha**2 + sigma**2
        return latents * (alpha / square) - output * (sigma / square**0.5)
    return output


def take_step(schedule: Schedule, step: int, latents: Tensor, original: Tensor, noise: Tensor) -> Tensor:
    """Latents [B, C, h, w] at one noise level, and the clean ones predicted -> latents at the next level."""
    alpha, sigma = schedule.alphas[step + 1], schedule.sigmas[step + 1]
    if schedule.boundary:
        skip, out = schedule.boundary[step]
        denoised = out * original + skip * latents
        return alpha * denoised + sigma * noise if sigma else denoised
    # x + (x - x0) / sigma * (next - sigma), sorted so that the last step (next = 0) is x0 without rounding.
    left = sigma / schedule.sigmas[step]
    return original + left * (latents - original) if left else original


def sample_latents(denoise: Callable[[Tensor, int], Tensor], noise: Tensor, schedule: Schedule) -> Tensor:
    """Standard Gaussian noise [B, C, h, w] -> clean latents of the same shape.

    `denoise(scaled latents, index of the step)` is the UNet with everything else held fixed.
    """
    latents = noise * schedule.noise_scale
    for step in range(schedule.steps):
        size = (schedule.alphas[step] ** 2 + schedule.sigmas[step] ** 2) ** 0.5
        original = predict_original(schedule, step, latents, denoise(latents / size, step))
        latents = take_step(schedule, step, latents, original, noise)
    return latents
