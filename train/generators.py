"""SD_theta of the paper's eq. (1): a frozen text-to-image model, differentiable from noise to picture.

    encode_prompt -> sample_latents (a few Euler steps of the UNet) -> decode_latents

The steps are free functions, because the exported graph strings the same ones together around a UNet whose
timestep is folded away. Which classes of diffusers and transformers may stand in a model is one table, `COMPONENTS`.
"""

from __future__ import annotations

import json
import re
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderTiny, EulerDiscreteScheduler, UNet2DConditionModel
from diffusers.utils import logging as diffusers_logging
from safetensors import SafetensorError
from torch import Tensor, nn
from transformers import CLIPTextModel
from transformers.utils import logging as transformers_logging

from pahi_rt.errors import PahiError

COMPONENTS: dict[str, dict[str, Any]] = {
    "text_encoder": {"CLIPTextModel": CLIPTextModel},
    "unet": {"UNet2DConditionModel": UNet2DConditionModel},
    "vae": {"AutoencoderTiny": AutoencoderTiny},
    "scheduler": {"EulerDiscreteScheduler": EulerDiscreteScheduler},
}
"""Folder of a component -> class name in model_index.json -> class."""

PREDICTION_TYPES = ("epsilon", "v_prediction", "sample")
MAX_STEPS = 4
NEEDS_MORE_INPUTS = ("class_embed_type", "addition_embed_type", "encoder_hid_dim_type", "time_cond_proj_dim")
"""Options of the UNet that ask for inputs beyond latents, timestep and text."""


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
        # x + (x - x0) / sigma * (next - sigma), with the terms sorted: the last step (next = 0) is x0, without rounding.
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
    folder = find_model(source)
    index = _read_index(folder)
    parts = {name: _load_component(folder, name, index) for name in COMPONENTS}
    _check_fit(folder, parts)
    return Generator(parts["text_encoder"], parts["unet"], parts["vae"], parts["scheduler"])


def find_model(source: str | Path) -> Path:
    """The folder of a model: `source` itself, or the snapshot of the hub id `source`. PahiError if there is none."""
    folder = Path(source)
    if folder.is_dir():
        return folder
    if not re.fullmatch(r"[\w.-]+/[\w.-]+", str(source)):
        raise PahiError(f"no model at {source}", fix="give the folder of a diffusers pipeline, or a hub id like owner/name")
    return _download(str(source))


def weight_files(component: Path) -> list[Path]:
    """The safetensors files of one component's folder, shards in order. PahiError if there are none."""
    stems = ("model", "diffusion_pytorch_model")
    for stem in stems:
        index = component / f"{stem}.safetensors.index.json"
        if index.is_file():
            return [component / name for name in sorted(set(json.loads(index.read_text())["weight_map"].values()))]
        if (component / f"{stem}.safetensors").is_file():
            return [component / f"{stem}.safetensors"]
    pickles = sorted(path.name for pattern in ("*.bin", "*.pt", "*.pth", "*.ckpt") for path in component.glob(pattern))
    if pickles:
        raise PahiError(
            f"the weights in {component} are a pickle ({pickles[0]}), which may run any code when it is opened",
            fix="save the model as safetensors: pipeline.save_pretrained(FOLDER, safe_serialization=True)",
        )
    raise PahiError(f"no weights in {component}", fix=f"put {' or '.join(stems)}.safetensors there")


def _download(hub_id: str) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    files = ["*.json", "*.txt", "README.md", "*/model*.safetensors", "*/diffusion_pytorch_model*.safetensors"]
    try:
        return Path(snapshot_download(hub_id, allow_patterns=files, ignore_patterns=["*.fp16.*", "*.fp16-*"]))
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError) as error:
        raise PahiError(
            f"no folder {hub_id} here, and the hub did not give a model of that name ({type(error).__name__})",
            fix="check the name and the connection, or give the folder of a diffusers pipeline",
        ) from error


def _read_index(folder: Path) -> dict[str, Any]:
    path = folder / "model_index.json"
    fix = "give the folder that StableDiffusionPipeline.save_pretrained wrote"
    try:
        index = json.loads(path.read_text())
    except FileNotFoundError as error:
        raise PahiError(f"{folder} is not a diffusers pipeline: it has no model_index.json", fix=fix) from error
    except ValueError as error:
        raise PahiError(f"{path} is not JSON: {error}", fix=fix) from error
    if not isinstance(index, dict):
        raise PahiError(f"{path} does not list components", fix=fix)
    return index


def _load_component(folder: Path, name: str, index: dict[str, Any]) -> Any:
    entry = index.get(name)
    found = entry[1] if isinstance(entry, list) and len(entry) == 2 else None
    if found is None or not (folder / name).is_dir():
        raise PahiError(f"the model {folder} lacks its {name}", fix=f"save the complete pipeline: {folder / name}")
    if found not in COMPONENTS[name]:
        raise PahiError(
            f"the {name} of {folder} is a {found}, which is not supported",
            fix=f"replace it before saving the pipeline: pipeline.{name} = {' or '.join(COMPONENTS[name])}(...)",
        )
    kind = COMPONENTS[name][found]
    return _load_scheduler(folder / name) if name == "scheduler" else _load_weights(kind, folder / name)


def _load_scheduler(folder: Path) -> EulerDiscreteScheduler:
    try:
        scheduler = EulerDiscreteScheduler.from_pretrained(folder)
    except (OSError, ValueError, NotImplementedError) as error:
        raise PahiError(f"cannot read the scheduler in {folder}: {error}", fix="save the pipeline again") from error
    kind = scheduler.config.prediction_type
    if kind not in PREDICTION_TYPES:
        raise PahiError(
            f"the scheduler in {folder} has prediction_type {kind!r}",
            fix=f"use a model that predicts {', '.join(PREDICTION_TYPES)}",
        )
    return scheduler


def _load_weights(kind: Any, folder: Path) -> nn.Module:
    weight_files(folder)
    # Of the two libraries only diffusers knows this argument; without it, it asks for the accelerate package.
    options = {} if kind is CLIPTextModel else {"low_cpu_mem_usage": False}
    try:
        with _quiet_libraries():
            model, report = kind.from_pretrained(folder, use_safetensors=True, output_loading_info=True, **options)
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        raise PahiError(f"cannot read the weights in {folder}: {error}", fix="download or save them again") from error
    # Both libraries fill what a file lacks with random numbers, and only log it.
    missing = sorted(report["missing_keys"])
    if missing:
        raise PahiError(f"{len(missing)} weights are missing in {folder}: {missing[0]}", fix="save the model again")
    return model  # type: ignore[no-any-return]


@contextmanager
def _quiet_libraries() -> Iterator[None]:
    """No bars and no warnings about harmless details while weights are read; what matters is checked here."""
    level, bars = diffusers_logging.get_verbosity(), transformers_logging.is_progress_bar_enabled()
    diffusers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    try:
        yield
    finally:
        diffusers_logging.set_verbosity(level)
        if bars:
            transformers_logging.enable_progress_bar()


def _check_fit(folder: Path, parts: dict[str, Any]) -> None:
    unet, vae, text = parts["unet"].config, parts["vae"].config, parts["text_encoder"].config
    for option in NEEDS_MORE_INPUTS:
        if unet.get(option) is not None:
            raise PahiError(f"the UNet of {folder} needs {option} = {unet[option]!r}", fix="use a plain SD 1.x/2.x layout")
    if not unet.in_channels == unet.out_channels == vae.latent_channels:
        raise PahiError(
            f"in {folder} the UNet maps {unet.in_channels} to {unet.out_channels} channels, the decoder reads"
            f" {vae.latent_channels}",
            fix="use the autoencoder that the UNet was trained with",
        )
    if unet.cross_attention_dim != text.hidden_size:
        raise PahiError(
            f"in {folder} the UNet reads embeddings of width {unet.cross_attention_dim}, the text encoder"
            f" writes {text.hidden_size}",
            fix="use the text encoder that the UNet was trained with",
        )
