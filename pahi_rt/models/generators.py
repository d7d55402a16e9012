"""SD_theta of the paper's eq. (1): a frozen text-to-image model, differentiable from noise to picture.

    tokenize -> encode_prompt -> sample_latents (one to four steps of the UNet) -> decode_latents

These steps are free functions in modules of their own, because the exported graph calls the same ones
around a UNet whose timestep is a folded constant.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from diffusers import UNet2DConditionModel
from torch import Tensor, nn
from transformers import CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer

from pahi_rt.errors import ModelError
from pahi_rt.models.components import check_fit, load_components, load_decoder
from pahi_rt.models.conditioning import (
    Conditioning,
    embed_guidance,
    encode_prompt,
    encode_prompt_twice,
    mark_prompt,
    pad_again,
)
from pahi_rt.models.families import GUIDANCE_SCALE
from pahi_rt.models.folders import find_model
from pahi_rt.models.latents import decode_latents, decoder_scale, latent_scale
from pahi_rt.models.loras import Lora, fuse_loras
from pahi_rt.models.sampling import Schedule, make_schedule, sample_latents
from pahi_rt.models.tokenization import prompt_length
from pahi_rt.tokenizer import check_prompts

MAX_STEPS = 4


def set_size(unet: UNet2DConditionModel, decoder: Any, height: int, width: int) -> None:
    """Set the size of a model's pictures, `height` x `width` pixels, in place of the size that it was trained at.

    Raises ModelError for a size that the UNet cannot halve and double again.
    """
    scale = decoder_scale(decoder.config)
    unit = scale * 2 ** (len(unet.config.block_out_channels) - 1)
    if min(height, width) < unit or height % unit or width % unit:
        what = f"the model cannot draw pictures of {height} x {width} pixels"
        raise ModelError(what, fix=f"use multiples of {unit} for --height and --width")
    unet.register_to_config(sample_size=(height // scale, width // scale))


class Generator(nn.Module):
    """A frozen one- to four-step text-to-image model in fp32: gradients reach the noise, never the weights."""

    guidance: Tensor | None
    time_ids: Tensor

    def __init__(
        self,
        tokenizer: CLIPTokenizer,
        text_encoder: CLIPTextModel,
        unet: UNet2DConditionModel,
        vae: Any,
        scheduler: Any,
        tokenizer_2: CLIPTokenizer | None = None,
        text_encoder_2: CLIPTextModelWithProjection | None = None,
    ) -> None:
        """The parts are those that `load_components` returns. They are checked; only SDXL has a second text encoder."""
        super().__init__()
        self.tokenizer, self.tokenizer_2 = tokenizer, tokenizer_2
        self.text_encoder, self.text_encoder_2 = text_encoder, text_encoder_2
        self.unet = unet
        self.decoder = vae
        self.latent_scale = latent_scale(vae.config, is_sdxl=text_encoder_2 is not None)
        self.scheduler = scheduler
        self.schedules: dict[int, Schedule] = {}
        width = unet.config.time_cond_proj_dim
        guidance = embed_guidance(GUIDANCE_SCALE, width) if width else None
        self.register_buffer("guidance", guidance, persistent=False)
        # The default of diffusers: original and target have the picture's size, and nothing is cropped.
        time_ids = torch.tensor([[*self.image_size, 0, 0, *self.image_size]], dtype=torch.float32)
        self.register_buffer("time_ids", time_ids, persistent=False)
        self.float().eval().requires_grad_(False)

    @property
    def parts(self) -> dict[str, Any]:
        """The parts, named as in `load_components`."""
        one = {"tokenizer": self.tokenizer, "text_encoder": self.text_encoder}
        two = {"tokenizer_2": self.tokenizer_2, "text_encoder_2": self.text_encoder_2}
        first = one if self.text_encoder_2 is None else one | two
        return first | {"unet": self.unet, "vae": self.decoder, "scheduler": self.scheduler}

    @property
    def latent_shape(self) -> tuple[int, int, int]:
        """Channels, height and width of the noise."""
        size = self.unet.config.sample_size
        height, width = (size, size) if isinstance(size, int) else size
        return self.unet.config.in_channels, height, width

    @property
    def image_size(self) -> tuple[int, int]:
        """Height and width of the pictures."""
        scale, (_, height, width) = decoder_scale(self.decoder.config), self.latent_shape
        return height * scale, width * scale

    @property
    def pooled_width(self) -> int:
        """Width of `Conditioning.pooled`."""
        if self.text_encoder_2 is None:
            return int(self.text_encoder.config.hidden_size)
        return int(self.text_encoder_2.config.projection_dim)

    @property
    def max_length(self) -> int:
        """Tokens of a prompt, padding included."""
        return prompt_length(self.tokenizer, self.text_encoder)

    def schedule(self, steps: int) -> Schedule:
        """Timesteps and noise levels for `steps` sampling steps. Raises ModelError unless `steps` is 1 to 4 and the
        scheduler supports it."""
        if not 1 <= steps <= MAX_STEPS:
            raise ModelError(f"{steps} sampling steps are not supported", fix=f"ask for 1 to {MAX_STEPS} steps")
        if steps not in self.schedules:
            self.schedules[steps] = make_schedule(self.scheduler, steps)
        return self.schedules[steps]

    def tokenize(self, prompts: Sequence[str]) -> Tensor:
        """B prompts -> token ids int64 [B, T], on the model's device. Longer prompts are cut. Raises PromptError for
        blank ones."""
        check_prompts(prompts)
        ids: Tensor = self.tokenizer(
            list(prompts), padding="max_length", truncation=True, max_length=self.max_length, return_tensors="pt"
        ).input_ids
        return ids.to(self.time_ids.device)

    def encode_prompt(self, input_ids: Tensor) -> Conditioning:
        """Token ids int64 [B, T] of the (first) tokenizer -> conditioning."""
        end, pad = self.tokenizer.eos_token_id, self.tokenizer.pad_token_id
        if self.text_encoder_2 is None or self.tokenizer_2 is None:
            # diffusers reads this setting too, but not for SDXL.
            is_masked = getattr(self.text_encoder.config, "use_attention_mask", False)
            mask = mark_prompt(input_ids, end, pad).long() if is_masked else None
            return encode_prompt(self.text_encoder, input_ids, mask)
        input_ids_2 = pad_again(input_ids, end, pad, self.tokenizer_2.pad_token_id)
        return encode_prompt_twice(self.text_encoder, self.text_encoder_2, input_ids, input_ids_2, self.time_ids)

    def draw(self, conditioning: Conditioning, noise: Tensor, steps: int = 1) -> Tensor:
        """Standard Gaussian noise [B, C, h, w] -> pictures [B, 3, H, W] in [0, 1], in `steps` steps."""
        schedule = self.schedule(steps)

        def denoise(latents: Tensor, step: int) -> Tensor:
            output: Tensor = self.unet(
                latents,
                torch.tensor(schedule.timesteps[step], device=latents.device),
                conditioning.embeddings,
                timestep_cond=self.guidance,
                added_cond_kwargs=conditioning.added,
            ).sample
            # Under autocast the output is in half precision. SD-Turbo's sampler multiplies it by 14.6 and subtracts it
            # from numbers of that size, so that is computed in float32, as in exported graphs.
            return output.to(latents.dtype)

        return decode_latents(self.decoder, sample_latents(denoise, noise, schedule), self.latent_scale)

    def forward(self, input_ids: Tensor, noise: Tensor, steps: int = 1) -> Tensor:
        """Token ids [B, T] and standard Gaussian noise [B, C, h, w] -> pictures [B, 3, H, W] in [0, 1].

        Equal to diffusers' own pipeline with the same noise as its `latents`, apart from what `differences.py` lists.
        """
        return self.draw(self.encode_prompt(input_ids), noise, steps)


def load_generator(
    source: str | Path,
    decoder: str | Path | None = None,
    size: tuple[int, int] | None = None,
    *,
    variant: str | None = None,
    loras: Sequence[Lora] = (),
) -> Generator:
    """Load the model in a diffusers folder, or on the Hugging Face hub, as a frozen fp32 Generator.

    Args:
        source: the folder, the name of a generator that a plugin brings, or a hub id.
        decoder: folder or hub id of an autoencoder to use in place of the model's own (the paper decodes SD-Turbo with
            TAESD).
        size: height and width of the pictures in pixels; by default those in the model's configuration.
        variant: which of several weights to read, such as "fp16"; by default the full ones, or the only variant.
        loras: added to the weights.

    Raises ModelError if a component is missing, unsupported, pickled, incomplete, or does not fit the others, and for a
    size that the model cannot draw.
    """
    folder = find_model(source, variant)
    decoder_folder = None if decoder is None else find_model(decoder)
    return read_generator(folder, decoder_folder, size, variant=variant, loras=loras)


def read_generator(
    folder: Path,
    decoder: Path | None = None,
    size: tuple[int, int] | None = None,
    *,
    variant: str | None = None,
    loras: Sequence[Lora] = (),
) -> Generator:
    """The same from folders that `find_model` has found."""
    parts = load_components(folder, variant)
    fuse_loras(parts, loras)
    if decoder is not None:
        parts["vae"] = load_decoder(decoder)
        check_fit(folder, parts)
    if size is not None:
        set_size(parts["unet"], parts["vae"], *size)
    return Generator(**parts)
