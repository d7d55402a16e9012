"""Where a bundle comes from: ids, revisions, hashes and licences of the model's parts, versions of the tools."""

from __future__ import annotations

import hashlib
import platform
import re
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from pahi_rt import __version__
from pahi_rt.bundle import Component
from pahi_rt.machine import module_version
from pahi_rt.train.sources import find_model
from pahi_rt.train.weights import weight_files

TOOLS = ("torch", "diffusers", "transformers", "onnx", "onnxscript", "onnxruntime")
UNKNOWN = "unknown"


def describe_components(model: str | Path, decoder: str | Path | None = None) -> tuple[Component, Component]:
    """The generator (text encoders and UNet) and the autoencoder of `model`, or `decoder` in the autoencoder's place.

    Both are folders or hub ids. Raises PahiError if they cannot be found.
    """
    folder = find_model(model)
    parts = [folder / part for part in ("text_encoder", "text_encoder_2", "unet") if (folder / part).is_dir()]
    generator = _describe(model, folder, [file for part in parts for file in weight_files(part)])
    if decoder is not None:
        folder = find_model(decoder)
        return generator, _describe(decoder, folder, weight_files(folder))
    autoencoder = _describe(model, folder, weight_files(folder / "vae"))
    return generator, replace(autoencoder, id=f"{autoencoder.id}/vae")


def _describe(source: str | Path, folder: Path, weights: Iterable[Path]) -> Component:
    name = folder.resolve().name if Path(source).is_dir() else str(source)
    revision = folder.name if folder.parent.name == "snapshots" else "local"
    return Component(name, revision, hash_files(weights), read_licence(folder))


def settings_files(folder: Path, decoder: str | Path | None = None) -> list[Path]:
    """All files of a diffusers model, and of the decoder in its own's place, that hold no weights but decide too."""
    folders = [folder] if decoder is None else [folder, find_model(decoder)]
    return sorted(path for place in folders for kind in ("*.json", "*.txt") for path in place.rglob(kind))


def describe_prior(path: Path) -> Component:
    """A prior's checkpoint, named after its folder, which is the run's, and its file."""
    path = path.resolve()
    return Component(f"{path.parent.name}/{path.name}", "local", hash_files([path]), read_licence(path.parent))


def hash_files(paths: Iterable[Path]) -> str:
    """sha256 of the files' contents, one after the other; for one file, what sha256sum prints."""
    digest = hashlib.sha256()
    for path in paths:
        with path.open("rb") as file:
            while chunk := file.read(1 << 20):
                digest.update(chunk)
    return digest.hexdigest()


def read_licence(folder: Path) -> str:
    """What the front matter of the model card (README.md) says, as the hub reads it; else "unknown"."""
    card = folder / "README.md"
    if not card.is_file():
        return UNKNOWN
    front_matter = re.match(r"---\n(.*?)\n---", card.read_text(encoding="utf-8", errors="replace"), re.DOTALL)
    found = re.search(r"^license: *(\S.*)$", front_matter[1], re.MULTILINE) if front_matter else None
    return found[1].strip().strip("\"'") if found else UNKNOWN


def tool_versions() -> dict[str, str]:
    """Package -> version, for those that took part."""
    versions = {tool: module_version(tool) or UNKNOWN for tool in TOOLS}
    return {"python": platform.python_version(), "pahi-rt": __version__, **versions}
