"""SD_theta of the paper's eq. (1): a frozen text-to-image model, differentiable from noise to picture.

    tokenize -> encode_prompt -> sample_latents (one to four steps of the UNet) -> decode_latents

These steps are free functions, because the exported graph calls the same ones around a UNet whose timestep is a folded
constant.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from diffusers import UNet2DConditionModel
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer

from pahi_rt.errors import ModelError
from pahi_rt.models.components import check_fit, load_components, load_decoder
from pahi_rt.models.families import GUIDANCE_SCALE
from pahi_rt.models.loras import Lora, fuse_loras
from pahi_rt.models.sampling import Schedule, make_schedule, sample_latents
from pahi_rt.models.sources import find_model
from pahi_rt.models.tokenization import prompt_length
from pahi_rt.tokenizer import check_prompts

MAX_STEPS = 4


@dataclass(frozen=True)
class Conditioning:
    """A prompt as the UNet and the prior read it."""

    embeddings: Tensor
    """[B, T, D]: input of the UNet's cross-attention."""
    pooled: Tensor
    """[B, P]: the text encoder's state at the end token, after the final norm; for SDXL, that of the second encoder,
    projected. It is the input of PAHI: E(c) in eq. (7)."""
    added: dict[str, Tensor] = field(default_factory=dict)
    """Only for SDXL: text_embeds [B, P] and time_ids [B, 6]."""


def encode_prompt(text_encoder: CLIPTextModel, input_ids: Tensor, mask: Tensor | None = None) -> Conditioning:
    """Token ids [B, T] -> conditioning, for a model with one text encoder (SD 1.x, SD 2.x).

    `mask` [B, T] is 0 at positions that the encoder must not attend to.
    """
    output = text_encoder(input_ids, attention_mask=mask)
    return Conditioning(output.last_hidden_state, output.pooler_output)


def encode_prompt_twice(
    text_encoder: CLIPTextModel,
    text_encoder_2: CLIPTextModelWithProjection,
    input_ids: Tensor,
    input_ids_2: Tensor,
    time_ids: Tensor,
) -> Conditioning:
    """Token ids [B, T] for each encoder, and time ids [1, 6] -> conditioning, for a model with two encoders (SDXL).

    SDXL uses the output of both encoders' second-to-last layer, before the final norm.
    """
    first = text_encoder(input_ids, output_hidden_states=True)
    second = text_encoder_2(input_ids_2, output_hidden_states=True)
    embeddings = torch.cat([first.hidden_states[-2], second.hidden_states[-2]], dim=-1)
    # Not len(input_ids): it would fix the batch size in the exported graph.
    added = {"text_embeds": second.text_embeds, "time_ids": time_ids.expand(input_ids.shape[0], -1)}
    return Conditioning(embeddings, second.text_embeds, added)


def mark_prompt(input_ids: Tensor, end: int, pad: int) -> Tensor:
    """Token ids [B, T], padded with `pad` after the last `end` -> bool [B, T]: True for the prompt, False for padding.

    Where the end token is also the padding, the first of the trailing run belongs to the prompt. If the last word of
    the prompt is the end token spelt out, that word counts as the prompt's end.
    """
    positions = torch.arange(input_ids.shape[1], device=input_ids.device)
    last = torch.where(input_ids != pad, positions, 0).amax(dim=1, keepdim=True)
    return positions <= last + int(pad == end)


def pad_again(input_ids: Tensor, end: int, pad: int, new_pad: int) -> Tensor:
    """Token ids [B, T], padded with `pad` after the last `end` -> the same ids, padded with `new_pad`.

    One tensor of ids then serves both encoders of SDXL, whose tokenizers differ only in their padding: the second is
    OpenCLIP's, which pads with 0. (In diffusers the second tokenizer also reads every "!" of a prompt as padding,
    because its pad token is spelt "!". OpenCLIP, with which the encoder was trained, does not, and neither does this.)
    """
    return torch.where(mark_prompt(input_ids, end, pad), input_ids, new_pad)


def embed_guidance(scale: float, width: int) -> Tensor:
    """Guidance scale -> its embedding [1, width], which the UNet of an LCM reads beside its timestep.

    The values are those of diffusers' get_guidance_scale_embedding. Angles reach thousands, so float32 gives the same
    values only if it rounds in the same order.
    """
    half = width // 2
    frequencies = torch.exp(torch.arange(half, dtype=torch.float32) * -(torch.log(torch.tensor(10000.0)) / (half - 1)))
    angles = torch.tensor(scale - 1) * 1000.0 * frequencies
    return F.pad(torch.cat([angles.sin(), angles.cos()]), (0, width % 2))[None]


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
        self._schedules: dict[int, Schedule] = {}
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
        if steps not in self._schedules:
            self._schedules[steps] = make_schedule(self.scheduler, steps)
        return self._schedules[steps]

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
        source: the folder, or a hub id.
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
