"""Weights that others published: found here or on the hub, read without running what a pickle says, put in place.

    locate -> weights_file -> read_weights -> build

A pickle is read by PyTorch's restricted reader (`weights_only=True`), which makes tensors and nothing else, and is
rewritten once as safetensors in the user's cache.
"""

from __future__ import annotations

import hashlib
import logging
import pickle
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from huggingface_hub.errors import StrictDataclassError
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers.utils import logging as transformers_logging

from pahi_rt.cache import cache_folder
from pahi_rt.errors import PahiError
from pahi_rt.files import explain, writing_whole

VOCABULARIES = ("tokenizer.json", "vocab.json", "vocab.txt")
"""Files of which a tokenizer has at least one."""
_TOKENIZER_FILES = (*VOCABULARIES, "merges.txt", "tokenizer_config.json", "special_tokens_map.json")

logger = logging.getLogger(__name__)


def locate(source: str, files: Sequence[str], fix: str) -> Path:
    """The file or folder `source`, or the folder with those `files` (patterns) of the hub id `source`.

    Raises PahiError with `fix` if there is neither.
    """
    if Path(source).exists():
        return Path(source)
    if not re.fullmatch(r"[\w.-]+/[\w.-]+", source):
        raise PahiError(f"there is nothing at {source}", fix=fix)
    return _download(source, files, fix)


def weights_file(place: Path, names: Sequence[str]) -> Path:
    """`place` itself if it is a file; in a folder, the first of `names` there, as .safetensors where there is one.

    Raises PahiError if the folder has none of them.
    """
    if place.is_file():
        return place
    candidates = [path for name in names for path in ((place / name).with_suffix(".safetensors"), place / name)]
    for path in candidates:
        if path.is_file():
            return path
    raise PahiError(f"there is no {' or '.join(names)} in {place}", fix="give the checkpoint file itself")


def read_weights(path: Path) -> dict[str, Tensor]:
    """The tensors of a checkpoint by name: safetensors, or a pickle of a state dict that is converted once.

    Raises PahiError if it is damaged, or holds anything but tensors.
    """
    if path.suffix != ".safetensors":
        path = convert_pickle(path)
    try:
        return load_file(path)
    except (OSError, SafetensorError) as error:
        raise PahiError(f"cannot read {path}: {error}", fix="download it again") from error


def convert_pickle(path: Path) -> Path:
    """The safetensors copy of a pickled checkpoint in the user's cache, made on first use. Raises PahiError."""
    file = path.resolve().stat()
    key = hashlib.sha256(f"{path.resolve()} {file.st_size} {file.st_mtime_ns}".encode()).hexdigest()[:16]
    copy = cache_folder("scorers", f"{path.stem}-{key}.safetensors")
    if not copy.exists():
        weights = _unpickle(path)
        _save_atomically(weights, copy)
        logger.warning("%s is a pickle: its tensors were read alone, and are now also in %s", path, copy)
    return copy


def check_layout(weights: Mapping[str, Tensor], needed: Sequence[str], path: Path, fix: str) -> None:
    """Raises PahiError with `fix` unless all `needed` names are there."""
    for name in needed:
        if name not in weights:
            found = next(iter(weights), "nothing")
            raise PahiError(f"{path} has another layout: there is no {name} (it begins with {found})", fix=fix)


def under(weights: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """The weights whose names begin with `prefix`, named without it."""
    return {name.removeprefix(prefix): value for name, value in weights.items() if name.startswith(prefix)}


def rename(name: str, beginnings: Mapping[str, str], inside: Mapping[str, str]) -> str:
    """`name` with the first of `beginnings` that fits replaced, and then all that occurs of `inside`."""
    for old, new in beginnings.items():
        if name.startswith(old):
            name = new + name.removeprefix(old)
            break
    for old, new in inside.items():
        name = name.replace(old, new)
    return name


def count_layers(weights: Mapping[str, Tensor], prefix: str) -> int:
    """How many different numbers follow `prefix` in the names."""
    return len({name.split(".")[0] for name in under(weights, prefix)})


def build(kind: Any, folder: Path | None, source: Path, fix: str, **options: Any) -> Any:
    """`kind.from_pretrained(folder, **options)` of transformers in fp32, no weight of `source` missing or left over.

    Raises PahiError with `fix` otherwise: transformers fills what a file lacks with random numbers, and only logs it.
    """
    options = {**options, "dtype": torch.float32, "output_loading_info": True, "ignore_mismatched_sizes": True}
    try:
        with _quiet_transformers():
            model, report = kind.from_pretrained(folder, **options)
    except (OSError, ValueError, RuntimeError, SafetensorError, StrictDataclassError) as error:
        raise PahiError(f"{source} cannot be read as a {kind.__name__}: {_first_line(error)}", fix=fix) from error
    # Older releases of transformers saved the numbers 0, 1, 2, ... as well.
    extra = {name for name in report["unexpected_keys"] if not name.endswith("position_ids")}
    problems = {
        "lacks {} weights of a {}": set(report["missing_keys"]),
        "has {} weights that a {} has not": extra,
        "has {} weights of other shapes than a {}": {name for name, *_ in report["mismatched_keys"]},
    }
    for problem, names in problems.items():
        if names:
            what = f"{source} {problem.format(len(names), kind.__name__)}, such as {min(names)}"
            raise PahiError(what, fix=fix)
    return model


def fill(module: nn.Module, weights: Mapping[str, Tensor], source: Path, fix: str) -> None:
    """Copy `weights` into `module`. Raises PahiError with `fix` if a name or a shape differs."""
    expected = {name: list(value.shape) for name, value in module.state_dict().items()}
    found = {name: list(value.shape) for name, value in weights.items()}
    for name in sorted(expected | found):
        if expected.get(name) != found.get(name):
            what = f"{name} is {found.get(name, 'missing')} where {expected.get(name, 'nothing')} is expected"
            raise PahiError(f"{source} has another layout: {what}", fix=fix)
    module.load_state_dict(weights)


def load_tokenizer(kind: Any, beside: Path, published: str, vocabulary: int) -> Any:
    """The tokenizer in `beside` if one is there, or else that of the hub id `published`.

    Raises PahiError if there is neither, or if it has more than `vocabulary` tokens.
    """
    fix = f"put the tokenizer.json of {published} into {beside}"
    folder = beside
    if not has_tokenizer(folder):
        folder = locate(published, _TOKENIZER_FILES, fix)
    if not has_tokenizer(folder):
        # Without files transformers makes a tokenizer that knows no word.
        raise PahiError(f"there is no tokenizer in {folder}", fix=fix)
    try:
        with _quiet_transformers():
            tokenizer = kind.from_pretrained(folder)
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise PahiError(f"cannot read the tokenizer in {folder}: {_first_line(error)}", fix=fix) from error
    if len(tokenizer) > vocabulary:
        what = f"the tokenizer in {folder} has {len(tokenizer)} tokens, the model knows {vocabulary}"
        raise PahiError(what, fix=fix)
    return tokenizer


def has_tokenizer(folder: Path) -> bool:
    """Whether a folder holds a tokenizer's vocabulary."""
    return any((folder / name).is_file() for name in VOCABULARIES)


def _download(hub_id: str, files: Sequence[str], fix: str) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    try:
        return Path(snapshot_download(hub_id, allow_patterns=list(files)))
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError) as error:
        what = f"no file or folder {hub_id} here, and the hub did not give it ({type(error).__name__})"
        raise PahiError(what, fix=f"check the name and the connection, or {fix}") from error


def _unpickle(path: Path) -> dict[str, Tensor]:
    try:
        loaded = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, OSError) as error:
        # PyTorch's own message advises to let the pickle run.
        what = f"{path} is damaged, or a pickle that holds more than tensors and may run any code"
        fix = "download it again, or ask whoever made it for its state_dict as .safetensors"
        raise PahiError(what, fix=fix) from error
    weights = loaded.get("state_dict", loaded) if isinstance(loaded, dict) else None
    if not weights or not isinstance(weights, dict) or not all(isinstance(w, Tensor) for w in weights.values()):
        raise PahiError(f"{path} is not a state dict", fix="give the published checkpoint, which is one")
    return {name: value.contiguous() for name, value in weights.items()}


def _save_atomically(weights: dict[str, Tensor], path: Path) -> None:
    # Several processes of one training may convert at once; each writes a file of its own.
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with writing_whole(path) as new:
            save_file(weights, new)
    except (OSError, SafetensorError) as error:
        raise explain(error, path, "or set XDG_CACHE_HOME to another folder") from error


def _first_line(error: Exception) -> str:
    return str(error).strip().split("\n")[0] or type(error).__name__


@contextmanager
def _quiet_transformers() -> Iterator[None]:
    """No bars and no warnings about harmless details; what matters is checked here."""
    level, bars = transformers_logging.get_verbosity(), transformers_logging.is_progress_bar_enabled()
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    try:
        yield
    finally:
        transformers_logging.set_verbosity(level)
        if bars:
            transformers_logging.enable_progress_bar()
