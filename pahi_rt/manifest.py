"""pahi.json <-> dataclasses: everything that the runtime may know about a bundle.

Reading is strict: an unknown key, a missing key or a wrong type is an error that names the place, for a
manifest that is half understood gives wrong pictures rather than none.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any

from pahi_rt.errors import BundleError
from pahi_rt.record import FIX, Record

FORMAT_VERSION = 2
"""The newest that is read. Format 1 has no priors; a bundle without any is still written as that."""
MANIFEST = "pahi.json"
PRIORS = ("pahi", "hi")
"""Kinds of learned priors; what is drawn with unless another is asked for comes first."""
GAUSSIAN = "gaussian"
"""What stands in a kind's place for standard Gaussian noise."""
STRENGTH = "prior_strength"
"""The input that a graph with a prior has and others lack, float32 [batch] in 0..1."""

_PICKLES = (".ckpt", ".joblib", ".pickle", ".pkl", ".pt", ".pth")
_NAME = re.compile(r"[\w.+@ -]+(/[\w.+@ -]+)*")
_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class TensorSpec(Record):
    name: str
    dtype: str
    """As numpy spells it: "int64", "float32", "uint8"."""
    shape: tuple[int | str, ...]
    """The dynamic axis is "batch"."""


@dataclass(frozen=True)
class Graph(Record):
    file: str
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    opset: int
    precision: str
    """Of the stored weights: "fp32", "fp16", ..."""


@dataclass(frozen=True)
class Component(Record):
    """A part that the graph was made from: generator, autoencoder or prior."""

    id: str
    revision: str
    sha256: str
    """Of the weights it was exported from."""
    licence: str


@dataclass(frozen=True)
class PriorSpec(Record):
    """A learned prior, and the graphs that hold it; at strength 0 they draw from the standard Gaussian."""

    component: Component
    """Its sha256 is that of the checkpoint."""
    kl_nats: float | None
    """KL divergence from the standard Gaussian, mean over the prompts of the parity gate; null if unknown."""
    graphs: dict[int, Graph]
    """Denoising steps -> the graph that takes them."""


@dataclass(frozen=True)
class ImageSpec(Record):
    height: int
    """Pixels."""
    width: int
    """Pixels."""
    latent_shape: tuple[int, int, int]
    """Channels, height, width of one picture's noise."""


@dataclass(frozen=True)
class TokenizerSpec(Record):
    file: str
    max_length: int
    """T: tokens of a prompt, start and end token included."""
    pad_id: int


@dataclass(frozen=True)
class Engine(Record):
    """A plan for one kind of device; any difference in these makes it unusable."""

    file: str
    runtime: str
    runtime_version: str
    compute_capability: str
    shape_profile: str
    graph_sha256: str


@dataclass(frozen=True)
class Parity(Record):
    """What a graph's pictures were compared with, and how close they came."""

    graph: str
    against: str
    max_error: float
    """Largest difference of any value of a picture in [0, 1], before rounding."""
    psnr_db: float
    levels_within_one: float
    """Share of the values that differ by at most one level, 0..1."""
    tolerance: str


@dataclass(frozen=True)
class FileRecord(Record):
    sha256: str
    size: int
    """Bytes."""


@dataclass(frozen=True)
class Card(Record):
    """What a person should know before relying on the model."""

    summary: str
    trained_on: tuple[str, ...]
    licence: str
    limits: tuple[str, ...]
    measured: dict[str, float | str]
    """Name with its unit -> value."""


@dataclass(frozen=True)
class Manifest(Record):
    format_version: int
    name: str
    generator: Component
    autoencoder: Component
    priors: dict[str, PriorSpec]
    """Kind, one of PRIORS -> prior."""
    image: ImageSpec
    tokenizer: TokenizerSpec
    noise_recipe: str
    graphs: dict[int, Graph]
    """Denoising steps -> the graph without a prior that takes them; where there are priors, there may be none."""
    engines: tuple[Engine, ...]
    parity: tuple[Parity, ...]
    files: dict[str, FileRecord]
    """Every file of the bundle but the manifest: path inside the bundle, with "/" -> what it must be."""
    tools: dict[str, str]
    """Package -> version that made the bundle."""
    card: Card | None
    vocabulary: str | None
    """The file that lists the words which the model knows."""

    @classmethod
    def from_dict(cls, data: object, where: str = MANIFEST) -> Manifest:
        """`data` is of any format up to FORMAT_VERSION. Raises BundleError as every record does."""
        return super().from_dict(_from_format_1(data, where), where)

    def to_dict(self) -> dict[str, Any]:
        """In the format that `format_version` says."""
        data = super().to_dict()
        return _replace(data, "priors", "prior", None) if self.format_version == 1 else data


def read_manifest(raw: bytes, where: str) -> Manifest:
    """`raw` is pahi.json's content, `where` its place in messages. Raises BundleError."""
    try:
        data = json.loads(raw)
    except (ValueError, RecursionError) as error:
        raise BundleError(f"{where} is not valid JSON: {error}", fix=FIX) from error
    version = data.get("format_version") if isinstance(data, dict) else None
    if type(version) is int and version > FORMAT_VERSION:
        raise BundleError(
            f"{where} is of bundle format {version}; this version reads up to {FORMAT_VERSION}",
            fix="pip install --upgrade pahi-rt",
        )
    if type(version) is not int or version < 1:
        raise BundleError(f"{where} holds no usable format_version", fix=FIX)
    manifest = Manifest.from_dict(data, where)
    check_manifest(manifest, where)
    return manifest


def check_manifest(manifest: Manifest, where: str = MANIFEST) -> None:
    """Raises BundleError unless names are safe, every file that is named is listed, and sizes make sense."""
    for name, record in manifest.files.items():
        if not is_safe_name(name) or name == MANIFEST:
            raise BundleError(f"{where}: {name!r} is not a path inside the bundle", fix=FIX)
        if is_pickle_name(name):
            raise BundleError(f"{where}: {name} is a pickle; a bundle must hold none", fix=FIX)
        if record.size < 0 or not _SHA256.fullmatch(record.sha256):
            raise BundleError(f"{where}: files: {name}: no usable size and sha256", fix=FIX)
    for name in _named_files(manifest):
        if name not in manifest.files:
            raise BundleError(f"{where}: {name!r} is used but not listed under files", fix=FIX)
    _check_priors(manifest, where)
    sizes = (manifest.image.height, manifest.image.width, *manifest.image.latent_shape)
    if min(sizes) < 1 or manifest.tokenizer.max_length < 2 or manifest.tokenizer.pad_id < 0:
        raise BundleError(f"{where}: image or tokenizer sizes make no sense", fix=FIX)


def is_safe_name(name: str) -> bool:
    """A relative path with "/" that cannot leave its folder on any system."""
    return _NAME.fullmatch(name) is not None and not {".", ".."} & set(name.split("/"))


def is_pickle_name(name: str) -> bool:
    return name.lower().endswith(_PICKLES)


def write_json(record: Record) -> bytes:
    """Raises BundleError for a number that JSON cannot hold, such as an infinite PSNR."""
    try:
        text = json.dumps(record.to_dict(), indent=2, ensure_ascii=False, allow_nan=False)
    except ValueError as error:
        raise BundleError(f"{MANIFEST} would hold a number that is not finite", fix="write a finite number") from error
    return (text + "\n").encode()


def _check_priors(manifest: Manifest, where: str) -> None:
    if manifest.priors and manifest.format_version == 1:
        raise BundleError(f"{where}: bundles of format 1 have no priors", fix=FIX)
    for kind, prior in manifest.priors.items():
        if kind not in PRIORS:
            raise BundleError(f"{where}: priors: {kind!r} is none of {', '.join(PRIORS)}", fix=FIX)
        if not prior.graphs:
            raise BundleError(f"{where}: priors: {kind} has no graph", fix=FIX)
        for graph in prior.graphs.values():
            if STRENGTH not in {spec.name for spec in graph.inputs}:
                raise BundleError(f"{where}: priors: {kind}: {graph.file} does not take {STRENGTH}", fix=FIX)


def _from_format_1(data: object, where: str) -> object:
    """What is of format 1, as format 2 has it; the rest as it is."""
    if not isinstance(data, dict) or data.get("format_version") != 1:
        return data
    if data.get("prior", "missing") is not None or "priors" in data:
        raise BundleError(f"{where}: format 1 has no 'priors', and a 'prior' that is null", fix=FIX)
    return _replace(data, "prior", "priors", {})


def _replace(data: dict[str, Any], old: str, new: str, value: object) -> dict[str, Any]:
    """`data` with another key and value in the place of the key `old`."""
    return {new if key == old else key: value if key == old else item for key, item in data.items()}


def _named_files(manifest: Manifest) -> list[str]:
    with_priors = [graph for prior in manifest.priors.values() for graph in prior.graphs.values()]
    graphs = [graph.file for graph in (*manifest.graphs.values(), *with_priors)]
    engines = [engine.file for engine in manifest.engines]
    vocabulary = [manifest.vocabulary] if manifest.vocabulary is not None else []
    return [*graphs, *engines, manifest.tokenizer.file, *vocabulary]
