"""Where bundles come from: the package itself, a folder, a .zip, or a repository of the Hugging Face hub."""

from __future__ import annotations

import os
from importlib import resources
from pathlib import Path

from pahi_rt.cache import cache_folder
from pahi_rt.errors import BundleError
from pahi_rt.hub import PREFIX, parse
from pahi_rt.manifest import MANIFEST


def built_in() -> list[str]:
    """The names of the bundles that travel inside the package, sorted."""
    return sorted(folder.name for folder in assets_folder().iterdir() if (folder / MANIFEST).is_file())


def is_managed(folder: Path) -> bool:
    """Whether `folder` belongs to the installed package or to the user's cache, where edits would be lost."""
    # Path.resolve raises RuntimeError for a loop of links before Python 3.13; realpath does not.
    found = Path(os.path.realpath(folder))
    return any(found.is_relative_to(os.path.realpath(place)) for place in (assets_folder(), cache_folder("bundles")))


def find_folder(name_or_path: str | Path) -> Path:
    """The folder of a bundle; `open_bundle` says how it is named. Zips and repositories are unpacked into the cache.

    Raises BundleError if there is no such bundle, or if it cannot be unpacked or downloaded. What is in the folder is
    not checked.
    """
    name = str(name_or_path)
    if isinstance(name_or_path, str) and name in built_in():
        return assets_folder() / name
    hub_id = parse(name) if isinstance(name_or_path, str) else None
    path = None if hub_id and name.startswith(PREFIX) else _existing(name)
    if path is not None and path.is_dir():
        return path
    if path is not None:
        from pahi_rt.archive import unpack

        return unpack(path)
    if hub_id is not None:
        from pahi_rt.archive import download

        return download(hub_id)
    raise BundleError(f"there is no bundle {name[:200]!r}", fix=list_choices())


def assets_folder() -> Path:
    """The folder inside the package that holds the built-in bundles."""
    return Path(str(resources.files("pahi_rt.assets")))


def list_choices() -> str:
    """The `fix` of an error about a bundle that is not there: the ways to name one."""
    names = ", ".join(built_in()) or "none here"
    return f"name a built-in bundle ({names}), a folder or .zip that holds {MANIFEST}, or a hub id owner/name"


def suggest_repair(folder: Path) -> str:
    """The `fix` of an error about a bundle that is damaged: how to get a whole copy of it."""
    if folder.parent == assets_folder():
        return "pip install --force-reinstall --no-deps pahi-rt"
    return f"remove {folder} and export, unpack or download the bundle again"


def _existing(name: str) -> Path | None:
    try:
        path = Path(name).expanduser()
        return path if name and (path.is_dir() or path.is_file()) else None
    except (OSError, RuntimeError, ValueError):  # too long, no such user, a NUL byte
        return None
