"""Loads published weights without running code from a pickle, and checks that every weight has its place.

    weights_file -> read_weights -> build

PyTorch's restricted reader (`weights_only=True`) reads a pickle: it makes only tensors. They are saved once as
safetensors in the user's cache.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from pahi_rt.cache import cache_folder
from pahi_rt.errors import ScorerError
from pahi_rt.files import explain, writing_whole
from pahi_rt.models.folders import locate
from pahi_rt.models.foreign import foreign
from pahi_rt.models.vocabularies import VOCABULARIES, has_vocabulary, read_tokenizer
from pahi_rt.models.weights import check_finite, check_loaded, some

MERGE = "merge it and save what comes out, with peft: model.merge_and_unload().save_pretrained(FOLDER)"
_TOKENIZER_FILES = (*(f for files in VOCABULARIES for f in files), "tokenizer_config.json", "special_tokens_map.json")

logger = logging.getLogger(__name__)


def weights_file(place: Path, names: Sequence[str]) -> Path:
    """`place` itself if it is a file; in a folder, the first of `names` there, or its .safetensors version.

    Raises ScorerError if the folder has none of these.
    """
    if place.is_file():
        return place
    candidates = [path for name in names for path in ((place / name).with_suffix(".safetensors"), place / name)]
    for path in candidates:
        if path.is_file():
            return path
    raise ScorerError(f"there is no {' or '.join(names)} in {place}", fix="give the checkpoint file itself")


def read_weights(path: Path) -> dict[str, Tensor]:
    """Read the tensors of a checkpoint, by name: from safetensors, or from a pickled state dict that is converted once.

    Raises ScorerError if the file is damaged, or holds anything but tensors.
    """
    if path.suffix != ".safetensors":
        path = convert_pickle(path)
    with foreign(path, partial(ScorerError, fix="download it again")):
        return load_file(path)


def convert_pickle(path: Path) -> Path:
    """The safetensors copy of a pickled checkpoint in the user's cache, made on first use.

    Raises ScorerError if the pickle is damaged or holds more than tensors, OutputError if the copy cannot be written.
    """
    file = path.resolve().stat()
    key = hashlib.sha256(f"{path.resolve()} {file.st_size} {file.st_mtime_ns}".encode()).hexdigest()[:16]
    copy = cache_folder("scorers", f"{path.stem}-{key}.safetensors")
    if not copy.exists():
        weights = _unpickle(path)
        _save(weights, copy)
        logger.warning("%s is a pickle: its tensors were read alone, and are now also in %s", path, copy)
    return copy


def check_layout(weights: Mapping[str, Tensor], needed: Sequence[str], path: Path, fix: str) -> None:
    """Raises ScorerError with `fix` unless `weights` has all `needed` names."""
    for name in needed:
        if name not in weights:
            found = next(iter(weights), "nothing")
            raise ScorerError(f"{path} has another layout: there is no {name} (it begins with {found})", fix=fix)


def under(weights: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """The weights whose names begin with `prefix`, named without it."""
    return {name.removeprefix(prefix): value for name, value in weights.items() if name.startswith(prefix)}


def rename(name: str, beginnings: Mapping[str, str], inside: Mapping[str, str]) -> str:
    """`name` with its beginning replaced by the first matching rule of `beginnings`, then every rule of `inside`."""
    for old, new in beginnings.items():
        if name.startswith(old):
            name = new + name.removeprefix(old)
            break
    for old, new in inside.items():
        name = name.replace(old, new)
    return name


def count_layers(weights: Mapping[str, Tensor], prefix: str) -> int:
    """Number of layers: how many different numbers follow `prefix` in the names."""
    return len({name.split(".")[0] for name in under(weights, prefix)})


def check_nothing_else(weights: Iterable[str], known: tuple[str, ...], path: Path, fix: str) -> None:
    """Raises ScorerError with `fix` if a name has none of the `known` beginnings, so that nothing would read it."""
    others = [name for name in weights if not name.startswith(known)]
    if others:
        raise ScorerError(f"{path} has {len(others)} weights that the scorer does not read: {some(others)}", fix=fix)


def build(kind: Any, folder: Path | None, source: Path, fix: str, **options: Any) -> Any:
    """`kind.from_pretrained(folder, **options)` of transformers, in fp32.

    Raises ScorerError with `fix` if weights of `source` are missing, left over or not finite.
    """
    refuse = partial(ScorerError, fix=fix)
    options = {**options, "dtype": torch.float32, "output_loading_info": True, "ignore_mismatched_sizes": True}
    with foreign(f"{source} as a {kind.__name__}", refuse):
        model, report = kind.from_pretrained(folder, **options)
    check_loaded(kind.__name__, report, source, refuse, MERGE)
    check_finite(model, source, refuse)
    return model


def fill(module: nn.Module, weights: Mapping[str, Tensor], source: Path, fix: str) -> None:
    """Copy `weights` into `module`. Raises ScorerError with `fix` if names or shapes differ, or one is not finite."""
    expected = {name: list(value.shape) for name, value in module.state_dict().items()}
    found = {name: list(value.shape) for name, value in weights.items()}
    for name in sorted(expected | found):
        if expected.get(name) != found.get(name):
            what = f"{name} is {found.get(name, 'missing')} where {expected.get(name, 'nothing')} is expected"
            raise ScorerError(f"{source} has another layout: {what}", fix=fix)
    module.load_state_dict(weights)
    check_finite(module, source, partial(ScorerError, fix=fix))


def load_tokenizer(kind: Any, beside: Path, published: str, vocabulary: int) -> Any:
    """Load the tokenizer of class `kind` from the folder `beside` if it has one, or else from the hub id `published`.

    Raises ScorerError if both are missing, or if the tokenizer has more than `vocabulary` tokens.
    """
    refuse = partial(ScorerError, fix=f"put the tokenizer.json of {published} into {beside}")
    folder = beside if has_vocabulary(beside) else locate(published, _TOKENIZER_FILES, refuse)
    tokenizer = read_tokenizer(kind, folder, refuse)
    if len(tokenizer) > vocabulary:
        raise refuse(f"the tokenizer in {folder} has {len(tokenizer)} tokens, the model knows {vocabulary}")
    return tokenizer


def _unpickle(path: Path) -> dict[str, Tensor]:
    try:
        loaded = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        # PyTorch's own message recommends to run the pickle.
        what = f"{path} is damaged, or a pickle that holds more than tensors and may run any code"
        fix = "download it again, or ask whoever made it for its state_dict as .safetensors"
        raise ScorerError(what, fix=fix) from error
    weights = loaded.get("state_dict", loaded) if isinstance(loaded, dict) else None
    if (
        not weights
        or not isinstance(weights, dict)
        or not all(isinstance(name, str) and isinstance(value, Tensor) for name, value in weights.items())
    ):
        raise ScorerError(f"{path} is not a state dict", fix="give the published checkpoint, which is one")
    # Cloned, because safetensors refuses tensors that share memory.
    return {name: value.clone(memory_format=torch.contiguous_format) for name, value in weights.items()}


def _save(weights: dict[str, Tensor], path: Path) -> None:
    # Several processes of one training may convert at the same time; each writes its own temporary file.
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with writing_whole(path) as new:
            save_file(weights, new)
    except (OSError, SafetensorError) as error:
        raise explain(error, path, "or set XDG_CACHE_HOME to another folder") from error
