"""The parts of a diffusers model: found in a folder or on the hub, loaded from safetensors, checked against each other.

Which classes of diffusers and transformers may stand in a model is one table, `COMPONENTS`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from diffusers import AutoencoderTiny, EulerDiscreteScheduler, UNet2DConditionModel
from diffusers.utils import logging as diffusers_logging
from safetensors import SafetensorError
from torch import nn
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
NEEDS_MORE_INPUTS = ("class_embed_type", "addition_embed_type", "encoder_hid_dim_type", "time_cond_proj_dim")
"""Options of the UNet that ask for inputs beyond latents, timestep and text."""


def turbo_scheduler(prediction_type: str) -> EulerDiscreteScheduler:
    """SD-Turbo's noise levels (its scheduler_config.json), for what a network of ours predicts."""
    return EulerDiscreteScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        timestep_spacing="trailing",
        steps_offset=1,
        prediction_type=prediction_type,
    )


def load_components(folder: Path) -> dict[str, Any]:
    """The parts of the diffusers pipeline in `folder`, named as in `COMPONENTS`.

    Raises PahiError if one is missing, unsupported, pickled, incomplete, or does not fit the others.
    """
    index = _read_index(folder)
    parts = {name: _load_component(folder, name, index) for name in COMPONENTS}
    check_fit(folder, parts)
    return parts


def find_model(source: str | Path) -> Path:
    """The folder of a model: `source` itself, or the snapshot of the hub id `source`. PahiError if there is none."""
    folder = Path(source)
    if folder.is_dir():
        return folder
    if not re.fullmatch(r"[\w.-]+/[\w.-]+", str(source)):
        fix = "give the folder of a diffusers pipeline, or a hub id like owner/name"
        raise PahiError(f"no model at {source}", fix=fix)
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

    kinds = ("*.json", "*.txt", "*.safetensors")
    files = [
        "model_index.json",
        "README.md",
        *(f"{part}/{kind}" for part in (*COMPONENTS, "tokenizer") for kind in kinds),
    ]
    try:
        return Path(snapshot_download(hub_id, allow_patterns=files, ignore_patterns=["*.fp16*"]))
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
    return model


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


def check_fit(folder: Path, parts: dict[str, Any]) -> None:
    """Raises PahiError unless text encoder, UNet and autoencoder agree on their channels, and need no more inputs."""
    unet, vae, text = parts["unet"].config, parts["vae"].config, parts["text_encoder"].config
    for option in NEEDS_MORE_INPUTS:
        if unet.get(option) is not None:
            what = f"the UNet of {folder} needs {option} = {unet[option]!r}"
            raise PahiError(what, fix="use a model of the plain SD 1.x/2.x layout")
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
