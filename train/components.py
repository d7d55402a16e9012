"""The parts of a diffusers model: found in a folder or on the hub, loaded from safetensors, checked against each other.

Which pipelines there are, and which classes may stand in them, says the registry.
"""

from __future__ import annotations

import json
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from diffusers import EulerDiscreteScheduler, LCMScheduler, ModelMixin
from diffusers.utils import logging as diffusers_logging
from safetensors import SafetensorError
from torch import nn
from transformers import CLIPTextModel, CLIPTokenizer
from transformers.utils import logging as transformers_logging

from pahi_rt.errors import PahiError
from pahi_rt.train.registry import FAMILIES, SHARED, Parts

PREDICTION_TYPES = ("epsilon", "v_prediction", "sample")
NEEDS_MORE_INPUTS = ("class_embed_type", "num_class_embeds", "encoder_hid_dim_type")
"""Options of the UNet that ask for inputs which no family here has."""
TIME_IDS = 6
"""Numbers in SDXL's time ids: height and width of the original, of the crop's corner, of the target."""
LEGACY_END = 2
"""The wrong eos_token_id of CLIP's first configurations: transformers then takes the prompt's highest id instead."""


def turbo_scheduler(prediction_type: str, kind: Any = EulerDiscreteScheduler) -> Any:
    """SD-Turbo's noise levels (its scheduler_config.json), for what a network of ours predicts."""
    with quiet_schedulers():
        return kind(
            beta_start=0.00085,
            beta_end=0.012,
            beta_schedule="scaled_linear",
            timestep_spacing="trailing",
            steps_offset=1,
            prediction_type=prediction_type,
        )


@contextmanager
def quiet_schedulers() -> Iterator[None]:
    """The schedulers of diffusers hand tensors to np.array, which numpy 2 deprecates."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        yield


def load_components(folder: Path) -> dict[str, Any]:
    """The parts of the diffusers pipeline in `folder`, named as in its entry of `FAMILIES`.

    Raises PahiError if one is missing, unsupported, pickled, incomplete, or does not fit the others.
    """
    index = _read_index(folder)
    parts = {name: _load_component(folder, name, kinds, index) for name, kinds in _family(folder, index).items()}
    check_fit(folder, parts)
    return parts


def load_decoder(source: str | Path) -> nn.Module:
    """The autoencoder in a folder of its own, or on the hub, such as madebyollin/taesd.

    Raises PahiError if there is none, of a supported class and with complete safetensors.
    """
    folder, kinds = find_model(source), SHARED["vae"]
    fix = f"give a folder that {' or '.join(kinds)}.save_pretrained wrote, or a hub id like madebyollin/taesd"
    try:
        found = json.loads((folder / "config.json").read_text())["_class_name"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise PahiError(f"{folder} is not an autoencoder: its config.json does not say so", fix=fix) from error
    if found not in kinds:
        raise PahiError(f"{folder} holds a {found}, which is not a supported autoencoder", fix=fix)
    return _load_weights(kinds[found], folder)


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

    folders = sorted({part for family in FAMILIES.values() for part in family})
    kinds = ("*.json", "*.txt", "*.safetensors")
    parts = [f"{folder}/{kind}" for folder in folders for kind in kinds]
    # A repository of an autoencoder alone, such as madebyollin/taesd, has no folders.
    alone = ["config.json", "diffusion_pytorch_model*.safetensors", "diffusion_pytorch_model.safetensors.index.json"]
    files = ["model_index.json", "README.md", *alone, *parts]
    try:
        return Path(snapshot_download(hub_id, allow_patterns=files, ignore_patterns=["*.fp16*", "*.non_ema*"]))
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


def _family(folder: Path, index: dict[str, Any]) -> Parts:
    name = index.get("_class_name")
    if not isinstance(name, str) or name not in FAMILIES:
        raise PahiError(
            f"the model {folder} is a {name}, which is not supported",
            fix=f"use a model of one of these pipelines: {', '.join(FAMILIES)}",
        )
    return FAMILIES[name]


def _load_component(folder: Path, name: str, kinds: dict[str, Any], index: dict[str, Any]) -> Any:
    entry = index.get(name)
    found = entry[1] if isinstance(entry, list) and len(entry) == 2 else None
    if found is None or not (folder / name).is_dir():
        raise PahiError(f"the model {folder} lacks its {name}", fix=f"save the complete pipeline: {folder / name}")
    if found not in kinds:
        # A scheduler made from nothing would have other noise levels than the model was trained with.
        source = "from_config(pipeline.scheduler.config)" if name == "scheduler" else "from_pretrained(...)"
        raise PahiError(
            f"the {name} of {folder} is a {found}, which is not supported",
            fix=f"replace it before saving the pipeline: pipeline.{name} = {next(iter(kinds))}.{source}"
            f" (supported: {', '.join(kinds)})",
        )
    if name == "scheduler":
        return _load_scheduler(kinds[found], folder / name)
    if name in ("tokenizer", "tokenizer_2"):
        return load_tokenizer(folder / name)
    return _load_weights(kinds[found], folder / name)


def load_tokenizer(folder: Path) -> CLIPTokenizer:
    """The tokenizer in `folder`. PahiError if it is missing, cannot be read, or cannot pad."""
    fix = "save the complete pipeline: StableDiffusionPipeline.save_pretrained writes it"
    if not folder.is_dir():
        raise PahiError(f"the model {folder.parent} lacks its {folder.name}", fix=fix)
    try:
        tokenizer = CLIPTokenizer.from_pretrained(folder)
    except (OSError, ValueError, TypeError) as error:
        raise PahiError(f"cannot read the tokenizer in {folder}: {error}", fix=fix) from error
    if tokenizer.pad_token_id is None:
        raise PahiError(f"the tokenizer in {folder} has no padding token", fix="set tokenizer.pad_token and save it")
    return tokenizer


def _load_scheduler(kind: Any, folder: Path) -> Any:
    try:
        with _quiet_libraries(), quiet_schedulers():
            scheduler = kind.from_pretrained(folder)
    except (OSError, ValueError, ImportError, NotImplementedError) as error:
        raise PahiError(f"cannot read the scheduler in {folder}: {error}", fix="save the pipeline again") from error
    config = scheduler.config
    if config.prediction_type not in PREDICTION_TYPES:
        raise PahiError(
            f"the scheduler in {folder} has prediction_type {config.prediction_type!r}",
            fix=f"use a model that predicts {', '.join(PREDICTION_TYPES)}",
        )
    if kind is LCMScheduler and (config.clip_sample or config.thresholding):
        raise PahiError(
            f"the scheduler in {folder} clips what the UNet predicts, which is meant for pixels, not for latents",
            fix="set clip_sample and thresholding to false in scheduler_config.json",
        )
    return scheduler


def _load_weights(kind: Any, folder: Path) -> nn.Module:
    weight_files(folder)
    # Of the two libraries only diffusers knows this argument; without it, it asks for the accelerate package.
    options = {"low_cpu_mem_usage": False} if issubclass(kind, ModelMixin) else {}
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
    """Raises PahiError unless tokenizers, text encoders, UNet and autoencoder agree, and need no more inputs."""
    _check_inputs(folder, parts)
    _check_channels(folder, parts["unet"].config, parts["vae"].config)
    _check_widths(folder, parts)
    for number in ("", "_2") if "text_encoder_2" in parts else ("",):
        check_vocabulary(folder, parts[f"tokenizer{number}"], parts[f"text_encoder{number}"])
        _check_end_token(folder, parts[f"tokenizer{number}"], f"text_encoder{number}", parts[f"text_encoder{number}"])
    if "text_encoder_2" in parts:
        _check_both_prompts(folder, parts)


def check_vocabulary(folder: Path, tokenizer: CLIPTokenizer, text_encoder: CLIPTextModel) -> None:
    """Raises PahiError if the tokenizer has tokens that the text encoder does not know."""
    if len(tokenizer) > text_encoder.config.vocab_size:
        raise PahiError(
            f"the tokenizer of {folder} has {len(tokenizer)} tokens, its text encoder knows"
            f" {text_encoder.config.vocab_size}",
            fix="use the tokenizer that the text encoder was trained with",
        )


def _check_inputs(folder: Path, parts: dict[str, Any]) -> None:
    unet = parts["unet"].config
    expected: dict[str, str | None] = dict.fromkeys(NEEDS_MORE_INPUTS)
    expected["addition_embed_type"] = "text_time" if "text_encoder_2" in parts else None
    for option, value in expected.items():
        if unet.get(option) != value:
            raise PahiError(
                f"the UNet of {folder} has {option} = {unet.get(option)!r} instead of {value!r}",
                fix="use a model of the plain SD 1.x, SD 2.x or SDXL layout, with the pipeline class of its family",
            )
    if not unet.sample_size:
        raise PahiError(
            f"the UNet of {folder} does not say how large its latents are",
            fix=f"set sample_size in {folder / 'unet' / 'config.json'} (64 for pictures of 512 pixels)",
        )


def _check_channels(folder: Path, unet: Any, vae: Any) -> None:
    if not unet.in_channels == unet.out_channels == vae.latent_channels:
        raise PahiError(
            f"in {folder} the UNet maps {unet.in_channels} to {unet.out_channels} channels, the decoder reads"
            f" {vae.latent_channels}",
            fix="use the autoencoder that the UNet was trained with",
        )


def _check_widths(folder: Path, parts: dict[str, Any]) -> None:
    unet = parts["unet"].config
    texts = [parts[name].config for name in ("text_encoder", "text_encoder_2") if name in parts]
    rows = [("embeddings", unet.cross_attention_dim, sum(text.hidden_size for text in texts))]
    if len(texts) == 2:
        pooled = unet.projection_class_embeddings_input_dim - TIME_IDS * unet.addition_time_embed_dim
        rows.append(("a pooled embedding", pooled, texts[1].projection_dim))
    for what, read, written in rows:
        if read != written:
            raise PahiError(
                f"in {folder} the UNet reads {what} of width {read}, the text encoder writes {written}",
                fix="use the text encoder that the UNet was trained with",
            )


def _check_end_token(folder: Path, tokenizer: CLIPTokenizer, name: str, text_encoder: CLIPTextModel) -> None:
    # With any other id transformers takes the state of the start token as pooled: the same for every prompt.
    configured = text_encoder.config.eos_token_id
    used = len(tokenizer) - 1 if configured == LEGACY_END else configured
    if used != tokenizer.eos_token_id:
        raise PahiError(
            f"in {folder} the {name} looks for the end of a prompt at token {used}, its tokenizer ends prompts with"
            f" {tokenizer.eos_token_id}",
            fix=f"set eos_token_id to {tokenizer.eos_token_id} in {folder / name / 'config.json'}",
        )


def _check_both_prompts(folder: Path, parts: dict[str, Any]) -> None:
    lengths = [parts[name].config.max_position_embeddings for name in ("text_encoder", "text_encoder_2")]
    same_words = parts["tokenizer"].get_vocab() == parts["tokenizer_2"].get_vocab()
    if lengths[0] != lengths[1] or not same_words:
        difference = f"{lengths[0]} and {lengths[1]} tokens" if same_words else "different vocabularies"
        raise PahiError(
            f"the two text encoders of {folder} read prompts of {difference}, so the same ids cannot serve both",
            fix="use an SDXL model, whose tokenizers differ in their padding alone",
        )
