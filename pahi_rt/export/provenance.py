"""Where a bundle comes from: the files it is made of, their ids, revisions, hashes and licences, and the tools."""

from __future__ import annotations

import hashlib
import platform
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from pahi_rt import __version__
from pahi_rt.files import sha256
from pahi_rt.machine import module_version
from pahi_rt.manifest import Component
from pahi_rt.models.folders import find_model
from pahi_rt.models.loras import Lora, read_lora
from pahi_rt.models.priors import find_prior
from pahi_rt.models.weights import weight_files

TOOLS = ("torch", "diffusers", "transformers", "onnx", "onnxscript", "onnxruntime")
UNKNOWN = "unknown"


@dataclass(frozen=True)
class Source:
    """What a bundle is made of, in files and folders that are there."""

    folder: Path
    """The diffusers model."""
    decoder: Path | None = None
    """An autoencoder that takes the place of the model's own."""
    variant: str | None = None
    """Which of the model's weights are read, such as "fp16"; None for the full ones."""
    loras: tuple[Lora, ...] = ()
    priors: tuple[Path, ...] = ()
    """Checkpoints."""
    size: tuple[int, int] | None = None
    """Height and width of the pictures, if not those that the model was trained at."""


def find_source(
    model: str | Path,
    decoder: str | Path | None = None,
    variant: str | None = None,
    loras: Sequence[str | Path] = (),
    priors: Sequence[str | Path] = (),
    size: tuple[int, int] | None = None,
) -> Source:
    """Find, or fetch from the hub, all that the arguments of `export_bundle` name.

    Call it once for a bundle: what a branch of the hub holds may change. Raises PahiError for what is not there.
    """
    return Source(
        find_model(model, variant),
        None if decoder is None else find_model(decoder),
        variant,
        tuple(map(read_lora, loras)),
        tuple(find_prior(Path(prior)) for prior in priors),
        size,
    )


@dataclass(frozen=True)
class Provenance:
    """What a manifest tells about the files of a `Source`."""

    generator: Component
    """Text encoders, UNet and what is fused into them."""
    autoencoder: Component
    priors: tuple[Component, ...]
    """In the order of the source's."""
    configs: str
    """sha256 of all files that hold settings, not weights."""
    tools: dict[str, str]
    """Package -> version."""

    def fingerprint(self, *settings: object) -> str:
        """One word for all that decides what a graph holds: these files, these tools, and `settings`."""
        return hashlib.sha256(repr((self, settings)).encode()).hexdigest()


def describe(source: Source) -> Provenance:
    """Hash and name the parts of `source`. Raises ModelError for weights that are not there."""
    generator, autoencoder = describe_components(source)
    priors = tuple(map(describe_prior, source.priors))
    return Provenance(generator, autoencoder, priors, sha256(*_list_configs(source)), tool_versions())


def describe_components(source: Source) -> tuple[Component, Component]:
    """The generator and the autoencoder. Raises ModelError for weights that are not there."""
    model = source.folder
    parts = [model / part for part in ("text_encoder", "text_encoder_2", "unet") if (model / part).is_dir()]
    files = [file for part in parts for file in weight_files(part, source.variant)]
    generator = _describe(model, [*files, *(lora.path for lora in source.loras)])
    generator = replace(generator, id=" + ".join([generator.id, *map(str, source.loras)]))
    if source.decoder is not None:
        return generator, _describe(source.decoder, weight_files(source.decoder))
    autoencoder = _describe(model, weight_files(model / "vae", source.variant))
    return generator, replace(autoencoder, id=f"{autoencoder.id}/vae")


def describe_prior(path: Path) -> Component:
    """A prior's checkpoint, named after its folder, which is the run's, and its file."""
    path = path.resolve()
    return Component(f"{path.parent.name}/{path.name}", "local", sha256(path), read_licence(path.parent))


def _describe(folder: Path, weights: Iterable[Path]) -> Component:
    if folder.parent.name != "snapshots":
        return Component(folder.resolve().name, "local", sha256(*weights), read_licence(folder))
    # The hub's cache: models--owner--name/snapshots/COMMIT.
    name = folder.parent.parent.name.removeprefix("models--").replace("--", "/")
    return Component(name, folder.name, sha256(*weights), read_licence(folder))


def _list_configs(source: Source) -> list[Path]:
    """Config files (not weights) that affect the export, of the model and of a replacement decoder."""
    folders = [source.folder] if source.decoder is None else [source.folder, source.decoder]
    return sorted(path for place in folders for kind in ("*.json", "*.txt") for path in place.rglob(kind))


def read_licence(folder: Path) -> str:
    """The licence in the front matter of the model card (README.md), as the hub reads it, or "unknown"."""
    card = folder / "README.md"
    if not card.is_file():
        return UNKNOWN
    front_matter = re.match(r"---\n(.*?)\n---", card.read_text(encoding="utf-8", errors="replace"), re.DOTALL)
    found = re.search(r"^license: *(\S.*)$", front_matter[1], re.MULTILINE) if front_matter else None
    return found[1].strip().strip("\"'") if found else UNKNOWN


def tool_versions() -> dict[str, str]:
    """Package -> version, for those that take part in an export."""
    versions = {tool: module_version(tool) or UNKNOWN for tool in TOOLS}
    return {"python": platform.python_version(), "pahi-rt": __version__, **versions}
