"""Finds the weight files of a model in a folder, and checks that the model read all of them and that they are finite.

    model.safetensors, diffusion_pytorch_model.safetensors     one file, as transformers and as diffusers name it
    model.safetensors.index.json                               lists several files, and which weights each one holds
    model.fp16.safetensors, model.safetensors.index.fp16.json  a variant

Both libraries fill missing weights with random numbers and drop unknown ones, and only log it.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import nn

from pahi_rt.errors import ModelError
from pahi_rt.models.foreign import Refuse, foreign, read_json

INDEX = ".safetensors.index"
_STEMS = {"diffusion_pytorch_model": (INDEX, ".safetensors"), "model": (".safetensors", INDEX)}
"""Stem of the files, as diffusers and transformers name them -> which the library prefers: an index or one file."""
_OTHER_FORMATS = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.gguf")
_ADAPTER_FILES = ("adapter_config.json", "adapter_model.*", "pytorch_lora_weights.*")
_ADAPTER_NAMES = re.compile("lora|lokr|loha|hada_|base_layer")
FUSE = (
    "fuse it and save what comes out: pipe.load_lora_weights(...); pipe.fuse_lora(); pipe.unload_lora_weights();"
    " pipe.save_pretrained(FOLDER)"
)

_POSITIONS = r"(^|\.)position_ids$"
"""0, 1, 2, ...: older releases of transformers saved them too."""
_REST_OF_CLIP = r"^(vision_model|visual_projection|text_projection)\.|^logit_scale$"
"""Weights of a whole CLIP that its text encoder alone does not read."""
HARMLESS = {
    "CLIPTextModel": f"{_POSITIONS}|{_REST_OF_CLIP}",
    "CLIPTextModelWithProjection": f"{_POSITIONS}|{_REST_OF_CLIP}",
}
"""Class -> pattern of weights that published files hold, and that pictures do not depend on."""

MEND = "let the weights and config.json fit: download both again, or save both again with save_pretrained"
_refuse = partial(ModelError, fix=MEND)

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Weights:
    """The safetensors files of one model."""

    files: tuple[Path, ...]
    """Shards in order."""
    variant: str | None
    """None for the full weights."""


def weight_files(folder: Path, variant: str | None = None) -> list[Path]:
    """The files that `find_weights` finds."""
    return list(find_weights(folder, variant).files)


def find_weights(folder: Path, variant: str | None = None, refuse: Refuse = _refuse) -> Weights:
    """The weights in a folder: those of `variant` if it has them, else the full ones, else its only variant.

    Raises `refuse(...)` if there are no weights, several variants to choose from, an index that does not fit its files,
    or an adapter beside the weights.
    """
    found = variants_in(folder)
    adapters = [path.name for pattern in _ADAPTER_FILES for path in sorted(folder.glob(pattern))]
    if adapters:
        raise refuse(f"{folder} holds an adapter beside its weights, which is not read: {adapters[0]}", fix=FUSE)
    choices = [name for name in (variant, None) if name in found] or list(found)
    if not choices:
        raise _nothing_found(folder, refuse)
    if choices[0] not in (variant, None) and len(found) > 1:
        names = " and ".join(sorted(map(str, found)))
        raise refuse(f"{folder} has no full weights, but {names}", fix="choose one of them with --variant")
    return Weights(_files(folder / found[choices[0]], refuse), choices[0])


def variants_in(folder: Path) -> dict[str | None, str]:
    """Variant, with None for the full weights -> name of its file, or of the index of its files."""
    names = sorted(path.name for path in folder.iterdir() if path.is_file()) if folder.is_dir() else []
    found: dict[str | None, str] = {}
    for stem, kinds in _STEMS.items():
        for kind in kinds:
            pattern = rf"{stem}\.safetensors\.index(\.\w+)?\.json" if kind == INDEX else rf"{stem}(\.\w+)?\.safetensors"
            for name in names:
                if match := re.fullmatch(pattern, name):
                    found.setdefault(match[1] and match[1][1:], name)
    return found


def tell_variants(folder: Path, parts: Sequence[str] = ("",), variant: str | None = None) -> None:
    """Log a warning if some of the folders `parts` have neither full weights nor `variant`, so that another is read."""
    found = {part: variants_in(folder / part) for part in parts}
    others = {part: names for part, names in found.items() if names and not names.keys() & {None, variant}}
    if others:
        names = sorted({str(name) for variants in others.values() for name in variants})
        logger.warning("%s has no full weights: those of the variant %s are read", folder, " and ".join(names))


def check_loaded(kind: str, report: Mapping[str, Collection[Any]], place: Path, refuse: Refuse, fuse: str) -> None:
    """Raises `refuse(...)` unless file and model fit exactly according to `report`, the loading info of either library.

    The error about an adapter that is not fused has the fix `fuse`.
    """
    harmless = re.compile(HARMLESS.get(kind, _POSITIONS))
    extra = [name for name in report["unexpected_keys"] if not harmless.search(name)]
    adapters = [name for name in extra if _ADAPTER_NAMES.search(name)]
    if adapters:
        raise refuse(f"{place} holds an adapter that is not fused into its weights: {some(adapters)}", fix=fuse)
    if report["missing_keys"]:
        count = len(report["missing_keys"])
        raise refuse(f"{place} lacks {count} weights of a {kind}: {some(report['missing_keys'])}")
    if extra:
        raise refuse(f"{place} has {len(extra)} weights that a {kind} of its settings does not read: {some(extra)}")
    for name, held, wanted in sorted(report["mismatched_keys"]):
        others = len(report["mismatched_keys"]) - 1
        what = f"{place} does not fit its settings: {name} is {list(held)} where a {kind} has {list(wanted)}"
        raise refuse(f"{what}, and {others} more" if others else what)


@torch.no_grad()
def check_finite(model: nn.Module, place: Path, refuse: Refuse) -> None:
    """Raises `refuse(...)` if a weight is NaN or infinite."""
    for name, weight in model.state_dict().items():
        if not weight.isfinite().all():
            raise refuse(f"{name} in {place} holds NaN or infinity", fix="download it again, or take an earlier one")


def refuse_quantised(settings: Mapping[str, Any], place: Path, refuse: Refuse) -> None:
    """Raises `refuse(...)` if `settings`, a config.json, says that the weights are quantised."""
    quantised = settings.get("quantization_config")
    if quantised is not None:
        method = quantised.get("quant_method", "unknown") if isinstance(quantised, dict) else quantised
        fix = "load the original, unquantised weights; `pahi-rt export --precision w8` or int8 quantises them"
        raise refuse(f"the weights in {place} are quantised ({method}), and cannot be read as they are", fix=fix)


def some(names: Iterable[str], most: int = 3) -> str:
    """The first `most` names, sorted, and how many more there are."""
    ordered = sorted(names)
    rest = len(ordered) - most
    return ", ".join(ordered[:most]) + (f" and {rest} more" if rest > 0 else "")


def _files(path: Path, refuse: Refuse) -> tuple[Path, ...]:
    if path.suffix != ".json":
        return (path,)
    index = read_json(path, refuse).get("weight_map")
    if (
        not isinstance(index, dict)
        or not index
        or any(not isinstance(name, str) or Path(name).name != name for name in index.values())
    ):
        raise refuse(f"cannot read {path}: its weight_map does not name a file for each weight")
    files = tuple(path.with_name(name) for name in sorted(set(index.values())))
    for file in files:
        if not file.is_file():
            raise refuse(f"{path} names {file.name}, which is not there")
        # diffusers trusts the index, and fills weights that the file lacks with random numbers.
        differing = names_in(file, refuse) ^ {name for name, holder in index.items() if holder == file.name}
        if differing:
            raise refuse(f"{path} and {file.name} differ in what the file holds: {some(differing)}")
    return files


def names_in(file: Path, refuse: Refuse) -> set[str]:
    """The names of the weights in a safetensors file."""
    with foreign(file, refuse), safe_open(file, "pt") as opened:
        return set(opened.keys())


def _nothing_found(folder: Path, refuse: Refuse) -> Exception:
    others = sorted(path for pattern in _OTHER_FORMATS for path in folder.glob(pattern))
    if not others:
        return refuse(f"no weights in {folder}", fix=f"put {' or '.join(_STEMS)}.safetensors there")
    if others[0].suffix == ".gguf":
        what = f"the weights in {folder} are quantised ({others[0].name}), and cannot be read as they are"
        return refuse(what, fix="load the original, unquantised weights")
    return refuse(
        f"the weights in {folder} are a pickle ({others[0].name}), which may run any code when it is opened",
        fix="save the model as safetensors: pipeline.save_pretrained(FOLDER, safe_serialization=True)",
    )
