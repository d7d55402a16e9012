"""Loads the parts of a diffusers model from safetensors, and checks that they fit each other.

families.py lists the supported pipelines, and the classes that each part may have.
"""

from __future__ import annotations

import math
import re
from functools import partial
from pathlib import Path
from typing import Any

import torch
from diffusers import EulerDiscreteScheduler, LCMScheduler, ModelMixin
from torch import nn
from transformers import CLIPTextModel, CLIPTokenizer

from pahi_rt.errors import ModelError
from pahi_rt.models.families import FAMILIES, SHARED, Parts
from pahi_rt.models.foreign import foreign, quiet_schedulers, read_json
from pahi_rt.models.tokenization import check_both_tokenizers, check_tokenizer
from pahi_rt.models.vocabularies import read_tokenizer
from pahi_rt.models.weights import (
    FUSE,
    MEND,
    check_finite,
    check_loaded,
    find_weights,
    refuse_quantised,
    tell_variants,
    variants_in,
)

PREDICTION_TYPES = ("epsilon", "v_prediction", "sample")
NEEDS_MORE_INPUTS = ("class_embed_type", "num_class_embeds", "encoder_hid_dim_type")
"""Options of the UNet that ask for inputs which no supported family provides."""
TIME_IDS = 6
"""Numbers in SDXL's time ids: size of the original, corner of the crop and size of the target, two each."""
OLD_SIZE = 64
"""The sample_size that diffusers puts in place of a smaller one, in configurations that its first versions wrote."""
LEGACY_END = 2
"""The wrong eos_token_id in CLIP's first configurations. For it, transformers uses the highest id in the prompt."""

_SAVED = "give the folder that StableDiffusionPipeline.save_pretrained wrote"
_refuse = partial(ModelError, fix=MEND)


def turbo_scheduler(prediction_type: str, kind: Any = EulerDiscreteScheduler) -> Any:
    """A scheduler of class `kind` with SD-Turbo's noise levels (its scheduler_config.json), for `prediction_type`."""
    with quiet_schedulers():
        return kind(
            beta_start=0.00085,
            beta_end=0.012,
            beta_schedule="scaled_linear",
            timestep_spacing="trailing",
            steps_offset=1,
            prediction_type=prediction_type,
        )


def load_components(folder: Path, variant: str | None = None) -> dict[str, Any]:
    """Load the parts of the diffusers pipeline in `folder`: name of the part, as in `FAMILIES` -> the part.

    Each part uses the weights of `variant` if it has them, else the full ones, else its only variant; the last choice
    is logged. Raises ModelError if a part is missing, unsupported, pickled, quantised, incomplete, has weights that
    nothing reads, or does not fit the others.
    """
    if not (folder / "model_index.json").is_file():
        raise ModelError(f"{folder} is not a diffusers pipeline: it has no model_index.json", fix=_SAVED)
    index = read_json(folder / "model_index.json", partial(ModelError, fix=_SAVED))
    family = _family(folder, index)
    if variant is not None and not any(variant in variants_in(folder / name) for name in family):
        raise ModelError(f"{folder} has no {variant} weights", fix="leave out --variant, or name one that it has")
    parts = {name: _load_component(folder, name, kinds, index, variant) for name, kinds in family.items()}
    tell_variants(folder, list(family), variant)
    check_fit(folder, parts)
    return parts


def load_decoder(folder: Path) -> nn.Module:
    """Load an autoencoder from a folder of its own, such as that of madebyollin/taesd.

    Raises ModelError if it is missing, of an unsupported class, or without complete safetensors.
    """
    kinds = SHARED["vae"]
    fix = f"give a folder that {' or '.join(kinds)}.save_pretrained wrote, or a hub id like madebyollin/taesd"
    if not (folder / "config.json").is_file():
        raise ModelError(f"{folder} is not an autoencoder: it has no config.json", fix=fix)
    found = read_json(folder / "config.json", partial(ModelError, fix=fix)).get("_class_name")
    if found not in kinds:
        raise ModelError(f"{folder} holds a {found}, which is not a supported autoencoder", fix=fix)
    tell_variants(folder)
    return _load_weights(kinds[found], folder)


def load_tokenizer(folder: Path) -> CLIPTokenizer:
    """Load the tokenizer in `folder`. Raises ModelError if it is missing or unreadable, has no vocabulary or no padding
    token."""
    fix = "save the complete pipeline: StableDiffusionPipeline.save_pretrained writes it"
    if not folder.is_dir():
        raise ModelError(f"the model {folder.parent} lacks its {folder.name}", fix=fix)
    return read_tokenizer(CLIPTokenizer, folder, partial(ModelError, fix=fix))


def _family(folder: Path, index: dict[str, Any]) -> Parts:
    name = index.get("_class_name")
    if not isinstance(name, str) or name not in FAMILIES:
        raise ModelError(
            f"the model {folder} is a {name}, which is not supported",
            fix=f"use a model of one of these pipelines: {', '.join(FAMILIES)}",
        )
    return FAMILIES[name]


def _load_component(folder: Path, name: str, kinds: dict[str, Any], index: dict[str, Any], variant: str | None) -> Any:
    if not (folder / name).is_dir():
        raise ModelError(f"the model {folder} lacks its {name}", fix=f"save the complete pipeline: {folder / name}")
    found = _class_of(folder, name, next(iter(kinds)), index)
    if found not in kinds:
        # A scheduler made from nothing would have other noise levels than the model was trained with.
        source = "from_config(pipeline.scheduler.config)" if name == "scheduler" else "from_pretrained(...)"
        raise ModelError(
            f"the {name} of {folder} is a {found}, which is not supported",
            fix=f"replace it before saving the pipeline: pipeline.{name} = {next(iter(kinds))}.{source}"
            f" (supported: {', '.join(kinds)})",
        )
    if name == "scheduler":
        return _load_scheduler(kinds[found], folder / name)
    if name in ("tokenizer", "tokenizer_2"):
        return load_tokenizer(folder / name)
    return _load_weights(kinds[found], folder / name, variant)


def _class_of(folder: Path, name: str, usual: str, index: dict[str, Any]) -> str:
    """The class name of a part, from its own config.json and from model_index.json.

    Both are read, because either may be wrong or silent: published LCM models do not list a scheduler, and diffusers
    loads an autoencoder that was replaced by hand as the class that the index still names. Raises ModelError if neither
    names a class, or if they differ.
    """
    entry = index.get(name)
    listed = entry[1] if isinstance(entry, list) and len(entry) == 2 else None
    settings = folder / name / ("scheduler_config.json" if name == "scheduler" else "config.json")
    own = read_json(settings, _refuse).get("_class_name") if settings.is_file() else None
    line = f'"{name}": ["diffusers", "{own or usual}"]'
    if not listed and not own:
        what = f"the model {folder} lacks its {name}: nothing says of which class the folder {name} is"
        raise ModelError(what, fix=f"write {line} into model_index.json, or the class that it is")
    if listed and own and listed != own and name != "scheduler":
        what = f"the {name} of {folder} is an {own}, but model_index.json calls it {listed}"
        raise ModelError(what, fix=f"write {line} into model_index.json, or put the {listed} back")
    # A scheduler's settings are often another scheduler's, reused: diffusers follows model_index.json.
    return str(listed or own)


def _load_scheduler(kind: Any, folder: Path) -> Any:
    with foreign(f"the scheduler in {folder}", _refuse):
        scheduler = kind.from_pretrained(folder)
    config = scheduler.config
    if config.prediction_type not in PREDICTION_TYPES:
        raise ModelError(
            f"the scheduler in {folder} has prediction_type {config.prediction_type!r}",
            fix=f"use a model that predicts {', '.join(PREDICTION_TYPES)}",
        )
    if kind is LCMScheduler and (config.clip_sample or config.thresholding):
        raise ModelError(
            f"the scheduler in {folder} clips what the UNet predicts, which is meant for pixels, not for latents",
            fix="set clip_sample and thresholding to false in scheduler_config.json",
        )
    return scheduler


def _load_weights(kind: Any, folder: Path, variant: str | None = None) -> nn.Module:
    weights = find_weights(folder, variant)
    refuse_quantised(read_json(folder / "config.json", _refuse), folder, _refuse)
    options: dict[str, Any] = {"use_safetensors": True, "output_loading_info": True, "variant": weights.variant}
    if issubclass(kind, ModelMixin):
        # By default diffusers asks for the accelerate package here; transformers does not know this argument.
        options["low_cpu_mem_usage"] = False
    else:
        # The dtype that a config names would round the weights.
        options |= {"dtype": torch.float32, "return_dict": True}
    with foreign(folder, _refuse):
        # check_loaded names shapes that differ; the libraries print all of them, or point to a log.
        model, report = kind.from_pretrained(folder, ignore_mismatched_sizes=True, **options)
    check_loaded(kind.__name__, report, folder, _refuse, FUSE)
    check_finite(model, folder, _refuse)
    return model


def check_fit(folder: Path, parts: dict[str, Any]) -> None:
    """Raises ModelError unless tokenizers, text encoders, UNet and autoencoder fit each other and need only the inputs
    that are provided here."""
    _check_inputs(folder, parts)
    _check_channels(folder, parts["unet"].config, parts["vae"].config)
    _check_scales(folder, parts["vae"].config)
    _check_widths(folder, parts)
    for number in ("", "_2") if "text_encoder_2" in parts else ("",):
        check_tokenizer(folder / f"tokenizer{number}", parts[f"tokenizer{number}"])
        check_vocabulary(folder, parts[f"tokenizer{number}"], parts[f"text_encoder{number}"])
        _check_end_token(folder, parts[f"tokenizer{number}"], f"text_encoder{number}", parts[f"text_encoder{number}"])
    if "text_encoder_2" in parts:
        check_both_tokenizers(folder, parts)


def check_vocabulary(folder: Path, tokenizer: CLIPTokenizer, text_encoder: CLIPTextModel) -> None:
    """Raises ModelError if the tokenizer has tokens that the text encoder does not know."""
    if len(tokenizer) > text_encoder.config.vocab_size:
        raise ModelError(
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
            raise ModelError(
                f"the UNet of {folder} has {option} = {unet.get(option)!r} instead of {value!r}",
                fix="use a model of the plain SD 1.x, SD 2.x or SDXL layout, with the pipeline class of its family",
            )
    sides = unet.sample_size if isinstance(unet.sample_size, (list, tuple)) else [unet.sample_size] * 2
    if len(sides) != 2 or not all(isinstance(side, int) and side > 0 for side in sides):
        raise ModelError(
            f"the UNet of {folder} does not say how large its latents are: its sample_size is {unet.sample_size!r}",
            fix=f"set sample_size in {folder / 'unet' / 'config.json'} (64 for pictures of 512 pixels)",
        )
    _check_age(folder, unet)


def _check_age(folder: Path, unet: Any) -> None:
    """Raises ModelError where diffusers would draw at 64: it takes a smaller sample_size in configurations of its first
    versions for a mistake."""
    size, version = unet.sample_size, str(unet.get("_diffusers_version"))
    if isinstance(size, int) and size < OLD_SIZE and re.match(r"0\.[0-8]\.", version):
        raise ModelError(
            f"the UNet of {folder} is of diffusers {version} and has sample_size {size}, which diffusers reads as 64",
            fix=f"set sample_size to 64 in {folder / 'unet' / 'config.json'}",
        )


def _check_scales(folder: Path, vae: Any) -> None:
    wanted: dict[str, int] = {"scaling_factor": 1, "shift_factor": 1, "latents_mean": vae.latent_channels}
    wanted["latents_std"] = vae.latent_channels
    for option, count in wanted.items():
        value = vae.get(option)
        numbers = value if isinstance(value, (list, tuple)) else [value]
        if value is None and option != "scaling_factor":
            continue
        if len(numbers) != count or not all(isinstance(n, (int, float)) and math.isfinite(n) for n in numbers):
            what = f"the autoencoder of {folder} has {option} = {value!r}, which is not {count} finite number(s)"
            raise ModelError(what, fix="set it as the autoencoder's authors do")


def _check_channels(folder: Path, unet: Any, vae: Any) -> None:
    if not unet.in_channels == unet.out_channels == vae.latent_channels:
        raise ModelError(
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
            raise ModelError(
                f"in {folder} the UNet reads {what} of width {read}, the text encoder writes {written}",
                fix="use the text encoder that the UNet was trained with",
            )


def _check_end_token(folder: Path, tokenizer: CLIPTokenizer, name: str, text_encoder: CLIPTextModel) -> None:
    # With a wrong id transformers pools the state of the start token, which is the same for every prompt.
    configured = text_encoder.config.eos_token_id
    used = len(tokenizer) - 1 if configured == LEGACY_END else configured
    if used != tokenizer.eos_token_id:
        raise ModelError(
            f"in {folder} the {name} looks for the end of a prompt at token {used}, its tokenizer ends prompts with"
            f" {tokenizer.eos_token_id}",
            fix=f"set eos_token_id to {tokenizer.eos_token_id} in {folder / name / 'config.json'}",
        )
