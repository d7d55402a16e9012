"""The few-step samplers against the schedulers of diffusers, with a made-up UNet."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from diffusers import EulerAncestralDiscreteScheduler, EulerDiscreteScheduler, LCMScheduler

from pahi_rt.errors import PahiError
from pahi_rt.train.components import PREDICTION_TYPES, turbo_scheduler
from pahi_rt.train.foreign import quiet_schedulers
from pahi_rt.train.sampling import make_schedule, sample_latents

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
    assert schedule.timesteps == (999, 499)
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
