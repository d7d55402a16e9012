"""From noise to clean latents in a few deterministic sampling steps: eq. (1) of the paper, repeated.

The input noise is the only noise. Euler's method needs no other. Two schedulers of diffusers draw fresh noise between
their steps. With one step that makes no difference; with more steps they are changed (`differences.py` lists this):

    EulerAncestral (SDXL-Turbo) becomes Euler: no noise is added, and the noise that is left is kept.
    LCM, which needs noise added between steps, gets the input noise again in every step.

With a learned prior, the input noise is the prior's x_T, for LCM's later steps too.
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
"""The first timestep must be at least this share of the training's timesteps: below it latents are not pure noise."""


@dataclass(frozen=True)
class Schedule:
    """A few-step sampler as plain numbers. Latents at a noise level are alpha * clean + sigma * noise."""

    timesteps: tuple[float, ...]
    """One for each step."""
    alphas: tuple[float, ...]
    """One before each step, and one after the last."""
    sigmas: tuple[float, ...]
    """Likewise."""
    noise_scale: float
    """Standard deviation of the first latents."""
    prediction_type: str
    boundary: tuple[tuple[float, float], ...] = ()
    """c_skip and c_out of each step of a consistency model (LCM); empty for Euler's method."""

    @property
    def steps(self) -> int:
        """Number of sampling steps."""
        return len(self.timesteps)


def make_schedule(scheduler: Any, steps: int) -> Schedule:
    """The deterministic schedule of `scheduler` for `steps` steps. Raises ModelError if it has none."""
    make = lcm_schedule if isinstance(scheduler, LCMScheduler) else euler_schedule
    try:
        schedule = make(scheduler, steps)
    except Exception as error:  # schedulers hardly check the settings that a model brings
        fix = "ask for fewer steps, or use a model of the few-step kind"
        raise ModelError(f"the model's scheduler cannot sample in {steps} steps: {reason(error)}", fix=fix) from error
    _check_numbers(schedule)
    _check_start(schedule, scheduler)
    return schedule


def _check_start(schedule: Schedule, scheduler: Any) -> None:
    trained = scheduler.config.num_train_timesteps
    start = f"timestep {schedule.timesteps[0]:g} of {trained}"
    is_noise = schedule.timesteps[0] >= PURE_NOISE * trained
    if is_continuous(scheduler):  # timesteps are logarithms of noise levels
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
    """Whether the UNet reads the logarithm of the noise level in place of a training timestep."""
    config = scheduler.config
    kinds = isinstance(scheduler, EulerDiscreteScheduler), config.get("timestep_type"), config.prediction_type
    return kinds == (True, "continuous", "v_prediction")


def as_euler(scheduler: Any) -> EulerDiscreteScheduler:
    """An EulerDiscreteScheduler with the noise levels of `scheduler`, which is one or an ancestral one."""
    config = dict(scheduler.config)
    if isinstance(scheduler, EulerAncestralDiscreteScheduler):
        # Drop settings in its file that it ignores, and that the other class would obey.
        obeyed = inspect.signature(EulerAncestralDiscreteScheduler).parameters
        config = {name: value for name, value in config.items() if name in obeyed}
    return EulerDiscreteScheduler.from_config(config)


def euler_schedule(scheduler: Any, steps: int) -> Schedule:
    """Euler's method over the noise levels of `scheduler`, ancestral or not, in `steps` steps."""
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
    """The schedule of a latent consistency model in `steps` steps."""
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
    """Eq. (1): the clean latents [B, C, h, w] that follow from noisy `latents` and the UNet's `output` at `step`."""
    alpha, sigma = schedule.alphas[step], schedule.sigmas[step]
    if schedule.prediction_type == "epsilon":
        return (latents - sigma * output) / alpha
    if schedule.prediction_type == "v_prediction":
        square = alpha**2 + sigma**2
        return latents * (alpha / square) - output * (sigma / square**0.5)
    return output


def take_step(schedule: Schedule, step: int, latents: Tensor, original: Tensor, noise: Tensor) -> Tensor:
    """Latents [B, C, h, w] at `step`, and the `original` ones predicted from them -> latents at the next level."""
    alpha, sigma = schedule.alphas[step + 1], schedule.sigmas[step + 1]
    if schedule.boundary:
        skip, out = schedule.boundary[step]
        denoised = out * original + skip * latents
        return alpha * denoised + sigma * noise if sigma else denoised
    # x + (x - x0) / sigma * (next - sigma), rearranged so that the last step (next = 0) gives x0 without rounding.
    left = sigma / schedule.sigmas[step]
    return original + left * (latents - original) if left else original


def sample_latents(denoise: Callable[[Tensor, int], Tensor], noise: Tensor, schedule: Schedule) -> Tensor:
    """Standard Gaussian noise [B, C, h, w] -> clean latents of the same shape.

    `denoise(scaled latents, index of the step)` is the UNet with all other inputs fixed.
    """
    latents = noise * schedule.noise_scale
    for step in range(schedule.steps):
        size = (schedule.alphas[step] ** 2 + schedule.sigmas[step] ** 2) ** 0.5
        original = predict_original(schedule, step, latents, denoise(latents / size, step))
        latents = take_step(schedule, step, latents, original, noise)
    return latents
