"""SD_theta of the paper's eq. (1): a frozen text-to-image model, differentiable from noise to picture.

    encode_prompt -> sample_latents (a few Euler steps of the UNet) -> decode_latents

The steps are free functions, because the exported graph strings the same ones together around a UNet whose
timestep is folded away.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from diffusers import AutoencoderTiny, EulerDiscreteScheduler, UNet2DConditionModel
from torch import Tensor, nn
from transformers import CLIPTextModel

from pahi_rt.errors import PahiError
from pahi_rt.train.components import find_model, load_components

MAX_STEPS = 4


@dataclass(frozen=True)
class Schedule:
    """The timesteps of a few-step sampler and their noise levels, as plain numbers."""

    timesteps: tuple[float, ...]
    sigmas: tuple[float, ...]
    """One more than timesteps: the noise level before each step, and after the last one."""
    noise_scale: float
    """Standard deviation of the first latents."""
    prediction_type: str

    @property
    def steps(self) -> int:
        return len(self.timesteps)


def euler_schedule(scheduler: EulerDiscreteScheduler, steps: int) -> Schedule:
    """What `scheduler` does in `steps` steps."""
    fresh = EulerDiscreteScheduler.from_config(scheduler.config)
    with warnings.catch_warnings():
        # diffusers hands tensors to np.array, which numpy 2 deprecates.
        warnings.simplefilter("ignore", DeprecationWarning)
        fresh.set_timesteps(steps)
    return Schedule(
        timesteps=tuple(float(t) for t in fresh.timesteps),
        sigmas=tuple(float(sigma) for sigma in fresh.sigmas),
        noise_scale=float(fresh.init_noise_sigma),
        prediction_type=fresh.config.prediction_type,
    )


def encode_prompt(text_encoder: CLIPTextModel, input_ids: Tensor) -> Tensor:
    """Token ids [B, T] -> embeddings [B, T, D]."""
    embeddings: Tensor = text_encoder(input_ids).last_hidden_state
    return embeddings


def predict_original(schedule: Schedule, latents: Tensor, sigma: float, output: Tensor) -> Tensor:
    """The noiseless latents that a UNet's output stands for, at noise level `sigma`."""
    if schedule.prediction_type == "epsilon":
        return latents - sigma * output
    if schedule.prediction_type == "v_prediction":
        return latents / (sigma**2 + 1) - output * (sigma / (sigma**2 + 1) ** 0.5)
    return output


def sample_latents(denoise: Callable[[Tensor, int], Tensor], noise: Tensor, schedule: Schedule) -> Tensor:
    """Standard Gaussian noise [B, C, h, w] -> latents of the same shape, by deterministic Euler steps.

    `denoise(scaled latents, index of the step)` is the UNet with everything else held fixed.
    """
    latents = noise * schedule.noise_scale
    for step, sigma in enumerate(schedule.sigmas[:-1]):
        output = denoise(latents / (sigma**2 + 1) ** 0.5, step)
        original = predict_original(schedule, latents, sigma, output)
        # x + (x - x0) / sigma * (next - sigma), sorted so that the last step (next = 0) is x0 without rounding.
        left = schedule.sigmas[step + 1] / sigma
        latents = original + left * (latents - original) if left else original
    return latents


def decode_latents(decoder: AutoencoderTiny, latents: Tensor) -> Tensor:
    """Latents [B, C, h, w] -> pictures [B, 3, H, W] in [0, 1]."""
    pictures: Tensor = decoder.decode(latents / decoder.config.scaling_factor).sample
    return (pictures / 2 + 0.5).clamp(0, 1)


class Generator(nn.Module):
    """A frozen one- to four-step text-to-image model in fp32: gradients reach the noise, never the weights."""

    def __init__(
        self,
        text_encoder: CLIPTextModel,
        unet: UNet2DConditionModel,
        decoder: AutoencoderTiny,
        scheduler: EulerDiscreteScheduler,
    ) -> None:
        super().__init__()
        self.text_encoder = text_encoder
        self.unet = unet
        self.decoder = decoder
        self.schedules = {steps: euler_schedule(scheduler, steps) for steps in range(1, MAX_STEPS + 1)}
        self.float().eval().requires_grad_(False)

    @property
    def latent_shape(self) -> tuple[int, int, int]:
        """Channels, height and width of the noise."""
        size = self.unet.config.sample_size
        height, width = (size, size) if isinstance(size, int) else size
        return self.unet.config.in_channels, height, width

    @property
    def max_length(self) -> int:
        """Tokens of a prompt, padding included."""
        return int(self.text_encoder.config.max_position_embeddings)

    def schedule(self, steps: int) -> Schedule:
        """Timesteps and noise levels of `steps` steps. PahiError unless it is 1 to 4."""
        if steps not in self.schedules:
            raise PahiError(f"{steps} sampling steps are not supported", fix=f"ask for 1 to {MAX_STEPS} steps")
        return self.schedules[steps]

    def encode_prompt(self, input_ids: Tensor) -> Tensor:
        """Token ids int64 [B, T] -> embeddings [B, T, D]."""
        return encode_prompt(self.text_encoder, input_ids)

    def forward(self, input_ids: Tensor, noise: Tensor, steps: int = 1) -> Tensor:
        """Token ids [B, T] and standard Gaussian noise [B, C, h, w] -> pictures [B, 3, H, W] in [0, 1].

        Equal to diffusers' StableDiffusionPipeline with guidance 0 and the same noise as its `latents`.
        """
        schedule = self.schedule(steps)
        embeddings = self.encode_prompt(input_ids)

        def denoise(latents: Tensor, step: int) -> Tensor:
            timestep = torch.tensor(schedule.timesteps[step], device=latents.device)
            output: Tensor = self.unet(latents, timestep, embeddings).sample
            return output

        return decode_latents(self.decoder, sample_latents(denoise, noise, schedule))


def load_generator(source: str | Path) -> Generator:
    """The model in a diffusers folder, or on the Hugging Face hub, as a frozen fp32 Generator.

    Raises PahiError if a component is missing, unsupported, pickled, incomplete, or does not fit the others.
    """
    parts = load_components(find_model(source))
    return Generator(parts["text_encoder"], parts["unet"], parts["vae"], parts["scheduler"])
