"""Finds models in folders, among plugins and on the Hugging Face hub.

Of a repository only the files that are used are fetched.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path

from pahi_rt import plugins
from pahi_rt.errors import HubError, ModelError
from pahi_rt.hub import PREFIX, HubId, download, parse
from pahi_rt.models.families import FAMILIES
from pahi_rt.models.foreign import Refuse
from pahi_rt.models.weights import variants_in
from pahi_rt.plugins import find_plugins, load_plugin

PARTS = ("", *sorted({part for family in FAMILIES.values() for part in family}))
"""Folders of a repository that may hold a part; "" where the repository is one part, such as madebyollin/taesd."""
USUAL_VARIANT = "fp16"
"""The variant that repositories without full weights usually have."""
_refuse = partial(ModelError, fix="give the folder of a diffusers pipeline, or a hub id like owner/name")


def find_model(source: str | Path, variant: str | None = None) -> Path:
    """The folder of a diffusers model: that of the generator which a plugin calls `source`, or `source` itself, or the
    snapshot of the hub id `source` (see `pahi_rt.hub`).

    From a repository, the weights of `variant` are fetched if it has them, else the full ones, else `USUAL_VARIANT`.
    Raises ModelError if there is no such model.
    """
    # A Path is a folder: Path("./emoji") is Path("emoji").
    if isinstance(source, str) and (added := find_plugins(plugins.GENERATORS).get(source)):
        return Path(load_plugin(added)())
    inside = [f"{part}/*.{kind}" for part in PARTS[1:] for kind in ("json", "txt")]
    settings = ["model_index.json", "README.md", "config.json", *inside]
    return find_parts(source, PARTS, settings, _refuse, variant)


def find_parts(
    source: str | Path, parts: Sequence[str], settings: Sequence[str], refuse: Refuse, variant: str | None = None
) -> Path:
    """As `find_model`, for weights in any of the folders `parts` and other files that match the patterns `settings`.

    Raises `refuse(...)` if there is no such model.
    """
    first, second = (variant, None) if variant else (None, USUAL_VARIANT)
    folder = locate(source, [*settings, *_patterns(parts, first)], refuse)
    lacking = [part for part in parts if (folder / part / "config.json").is_file() and not variants_in(folder / part)]
    hub_id = None if is_local(source) else parse(str(source))
    if not lacking or hub_id is None:
        return folder
    # From the same commit, even if the branch has moved since.
    return _fetch(HubId(hub_id.repository, folder.name), _patterns(lacking, second), refuse)


def locate(source: str | Path, files: Sequence[str], refuse: Refuse) -> Path:
    """The file or folder `source`; or, for a hub id, the folder that its `files` (patterns) are downloaded to.

    Raises `refuse(...)` if there is neither.
    """
    if is_local(source):
        return Path(source)
    hub_id = parse(str(source))
    if hub_id is None:
        raise refuse(f"there is nothing at {source}")
    return _fetch(hub_id, files, refuse)


def is_local(source: str | Path) -> bool:
    """Whether `source` is a file or folder on this machine, and not a hub id."""
    return not str(source).startswith(PREFIX) and Path(source).exists()


def _patterns(parts: Sequence[str], variant: str | None) -> list[str]:
    """Patterns for weights as either library names them: one file, or shards and their index."""
    dot = f".{variant}" if variant else ""
    names = [
        f"{stem}{ending}"
        for stem in ("model", "diffusion_pytorch_model")
        for ending in (f"{dot}.safetensors", f"{dot}-?????-of-?????.safetensors", f".safetensors.index{dot}.json")
    ]
    return [f"{part}/{name}" if part else name for part in parts for name in names]


def _fetch(hub_id: HubId, files: Sequence[str], refuse: Refuse) -> Path:
    try:
        return download(hub_id, files)
    except HubError as error:
        told = refuse(f"there is no file or folder {hub_id.repository} here, and {error.what}")
        told.fix = f"{error.fix}, or {told.fix}"
        raise told from error
