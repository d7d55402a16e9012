"""The few-step samplers against the schedulers of diffusers, with a made-up UNet."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from diffusers import EulerAncestralDiscreteScheduler, EulerDiscreteScheduler, LCMScheduler

from pahi_rt.errors import PahiError
from pahi_rt.models.components import PREDICTION_TYPES, turbo_scheduler
from pahi_rt.models.foreign import quiet_schedulers
from pahi_rt.models.sampling import make_schedule, sample_latents

NOISE = torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(0))


def denoise(latents: torch.Tensor, step: int) -> torch.Tensor:
    """Any function that is not linear, and another one at each step."""
    return torch.tanh(0.7 * latents.flip(1) - 0.3 * step) + 0.1 * latents


def sample_with_diffusers(scheduler: Any, steps: int) -> torch.Tensor:
    with quiet_schedulers():
        scheduler.set_timesteps(steps)
    latents = NOISE * scheduler.init_noise_sigma
    for index, timestep in enumerate(scheduler.timesteps):
        output = denoise(scheduler.scale_model_input(latents, timestep), index)
        latents = scheduler.step(output, timestep, latents, return_dict=False)[0]
    return latents


@pytest.fixture
def same_noise(monkeypatch: pytest.MonkeyPatch) -> None:
    """LCMScheduler injects the noise that the latents started from, instead of fresh noise."""
    monkeypatch.setattr("diffusers.schedulers.scheduling_lcm.randn_tensor", lambda *_, **__: NOISE)


@pytest.mark.usefixtures("same_noise")
@pytest.mark.parametrize("steps", [1, 2, 3, 4])
@pytest.mark.parametrize("prediction_type", PREDICTION_TYPES)
@pytest.mark.parametrize("kind", [EulerDiscreteScheduler, LCMScheduler])
def test_equals_diffusers(kind: Any, prediction_type: str, steps: int) -> None:
    scheduler = turbo_scheduler(prediction_type, kind)
    ours = sample_latents(denoise, NOISE, make_schedule(scheduler, steps))
    theirs = sample_with_diffusers(scheduler, steps)
    assert (ours - theirs).abs().max() < 1e-5 * theirs.abs().max()


def test_one_lcm_step_needs_no_fresh_noise() -> None:
    scheduler = turbo_scheduler("epsilon", LCMScheduler)
    ours = sample_latents(denoise, NOISE, make_schedule(scheduler, 1))
    assert torch.allclose(ours, sample_with_diffusers(scheduler, 1), atol=1e-4)


@pytest.mark.parametrize("prediction_type", ["epsilon", "v_prediction"])
def test_one_ancestral_step_is_that_of_diffusers(prediction_type: str) -> None:
    scheduler = turbo_scheduler(prediction_type, EulerAncestralDiscreteScheduler)
    ours = sample_latents(denoise, NOISE, make_schedule(scheduler, 1))
    assert torch.allclose(ours, sample_with_diffusers(scheduler, 1), atol=1e-4)


def test_more_ancestral_steps_are_those_of_euler() -> None:
    kinds = (EulerAncestralDiscreteScheduler, EulerDiscreteScheduler)
    ancestral, euler = (turbo_scheduler("epsilon", kind) for kind in kinds)
    assert make_schedule(ancestral, 3) == make_schedule(euler, 3)


def test_the_boundary_condition_is_that_of_the_paper() -> None:
    """c_skip(t) = 0.25 / ((10 t)^2 + 0.25), c_out(t) = 10 t / sqrt((10 t)^2 + 0.25)."""
    schedule = make_schedule(turbo_scheduler("epsilon", LCMScheduler), 2)
    assert schedule.timesteps == (999.0, 499.0)
    for timestep, (skip, out) in zip(schedule.timesteps, schedule.boundary, strict=True):
        square = (10 * timestep) ** 2 + 0.25
        assert (skip, out) == pytest.approx((0.25 / square, 10 * timestep / square**0.5))
    assert [a**2 + s**2 for a, s in zip(schedule.alphas, schedule.sigmas, strict=True)] == pytest.approx([1, 1, 1])
    assert (schedule.alphas[-1], schedule.sigmas[-1]) == (1, 0)


@pytest.mark.parametrize(("spacing", "first"), [("linspace", 0), ("leading", 1)])
def test_refuses_to_start_where_there_is_hardly_noise(spacing: str, first: int) -> None:
    """SDXL-Turbo's first configuration had linspace: one step starts at the end."""
    scheduler = EulerDiscreteScheduler.from_config(turbo_scheduler("epsilon").config, timestep_spacing=spacing)
    with pytest.raises(PahiError, match=f"starts at timestep {first} of 1000") as caught:
        make_schedule(scheduler, 1)
    assert "trailing" in caught.value.fix


def test_refuses_more_steps_than_the_model_was_distilled_for() -> None:
    scheduler = LCMScheduler(original_inference_steps=2)
    assert make_schedule(scheduler, 2).steps == 2
    with pytest.raises(PahiError, match="cannot sample in 4 steps"):
        make_schedule(scheduler, 4)


def test_ancestral_steps_obey_what_the_ancestral_scheduler_does() -> None:
    """Its file may hold settings of Euler's, which it does not read."""
    config = turbo_scheduler("epsilon", EulerAncestralDiscreteScheduler).config
    with quiet_schedulers():
        changed = EulerAncestralDiscreteScheduler.from_config(config, interpolation_type="log_linear")
        plain = EulerAncestralDiscreteScheduler.from_config(config)
    assert make_schedule(changed, 3) == make_schedule(plain, 3)


@pytest.mark.parametrize("steps", [1, 2, 3])
def test_continuous_timesteps_are_those_of_diffusers(steps: int) -> None:
    scheduler = EulerDiscreteScheduler.from_config(turbo_scheduler("v_prediction").config, timestep_type="continuous")
    schedule = make_schedule(scheduler, steps)
    theirs = sample_with_diffusers(scheduler, steps)
    assert schedule.timesteps == pytest.approx([float(t) for t in scheduler.timesteps])
    assert (sample_latents(denoise, NOISE, schedule) - theirs).abs().max() < 1e-5 * theirs.abs().max()


def test_refuses_continuous_timesteps_that_start_where_there_is_hardly_noise() -> None:
    options = {"timestep_type": "continuous", "use_karras_sigmas": True, "sigma_max": 3.0}
    scheduler = EulerDiscreteScheduler.from_config(turbo_scheduler("v_prediction").config, **options)
    with pytest.raises(PahiError, match="starts at noise level 3, not at pure noise"):
        make_schedule(scheduler, 1)


def test_an_lcm_without_any_signal_at_its_start() -> None:
    config = turbo_scheduler("epsilon", LCMScheduler).config
    with pytest.raises(PahiError, match="without any signal"):
        make_schedule(LCMScheduler.from_config(config, rescale_betas_zero_snr=True), 1)
    scheduler = LCMScheduler.from_config(config, rescale_betas_zero_snr=True, prediction_type="v_prediction")
    ours = sample_latents(denoise, NOISE, make_schedule(scheduler, 1))
    assert ours.isfinite().all()
    assert torch.allclose(ours, sample_with_diffusers(scheduler, 1), atol=1e-4)


def test_noise_levels_that_are_no_numbers_are_refused() -> None:
    scheduler = EulerDiscreteScheduler.from_config(turbo_scheduler("epsilon").config, beta_end=0.9)
    with pytest.raises(PahiError) as caught:
        make_schedule(scheduler, 1)
    assert caught.value.fix == "check scheduler_config.json"
