"""Where a bundle comes from: ids, revisions, hashes and licences of the model's parts, versions of the tools."""

from __future__ import annotations

import platform
import re
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

from pahi_rt import __version__
from pahi_rt.files import sha256
from pahi_rt.machine import module_version
from pahi_rt.manifest import Component
from pahi_rt.models.loras import Lora
from pahi_rt.models.weights import weight_files

TOOLS = ("torch", "diffusers", "transformers", "onnx", "onnxscript", "onnxruntime")
UNKNOWN = "unknown"


def describe_components(
    model: Path, decoder: Path | None = None, variant: str | None = None, loras: Sequence[Lora] = ()
) -> tuple[Component, Component]:
    """The generator (text encoders, UNet and what is fused into them) and the autoencoder of a model.

    `model` and `decoder`, an autoencoder in its own's place, are folders that `find_model` gave. Raises ModelError for
    weights that are not there.
    """
    parts = [model / part for part in ("text_encoder", "text_encoder_2", "unet") if (model / part).is_dir()]
    files = [file for part in parts for file in weight_files(part, variant)]
    generator = _describe(model, [*files, *(lora.path for lora in loras)])
    generator = replace(generator, id=" + ".join([generator.id, *map(str, loras)]))
    if decoder is not None:
        return generator, _describe(decoder, weight_files(decoder))
    autoencoder = _describe(model, weight_files(model / "vae", variant))
    return generator, replace(autoencoder, id=f"{autoencoder.id}/vae")


def _describe(folder: Path, weights: Iterable[Path]) -> Component:
    if folder.parent.name != "snapshots":
        return Component(folder.resolve().name, "local", sha256(*weights), read_licence(folder))
    # The hub's cache: models--owner--name/snapshots/COMMIT.
    name = folder.parent.parent.name.removeprefix("models--").replace("--", "/")
    return Component(name, folder.name, sha256(*weights), read_licence(folder))


def settings_files(model: Path, decoder: Path | None = None) -> list[Path]:
    """All files of a diffusers model, and of the decoder in its own's place, that hold no weights but decide too."""
    folders = [model] if decoder is None else [model, decoder]
    return sorted(path for place in folders for kind in ("*.json", "*.txt") for path in place.rglob(kind))


def describe_prior(path: Path) -> Component:
    """A prior's checkpoint, named after its folder, which is the run's, and its file."""
    path = path.resolve()
    return Component(f"{path.parent.name}/{path.name}", "local", sha256(path), read_licence(path.parent))


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
