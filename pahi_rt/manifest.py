"""pahi.json <-> dataclasses: everything that the runtime may know about a bundle.

Reading is strict: an unknown key, a missing key or a wrong type is an error that names the place, for a
manifest that is half understood gives wrong pictures rather than none.
"""

from __future__ import annotations

import json
import math
import re
from dataclasses import dataclass
from pathlib import PurePosixPath

from pahi_rt.errors import BundleError
from pahi_rt.record import FIX, Record, parse_json

FORMAT_VERSION = 3
"""What is written and read. Formats 1 and 2, of versions that were never released, had one precision."""
MANIFEST = "pahi.json"
PRIORS = ("pahi", "hi")
"""Kinds of learned priors; what is drawn with unless another is asked for comes first."""
GAUSSIAN = "gaussian"
"""What stands in a kind's place for standard Gaussian noise."""
STRENGTH = "prior_strength"
"""The input that a graph with a prior has and others lack, float32 [batch] in 0..1."""

PRECISIONS = ("fp32", "w16", "w8", "int8", "fp16")
"""What a graph computes in: fp32 and fp16 as they say, w16 and w8 in 32 bits with weights that are stored in 16 and 8,
int8 in 8 where convolutions are."""

MAX_MANIFEST = 1 << 20
"""Bytes of pahi.json."""
MAX_FILES = 1_000
MAX_GRAPHS = 100
MAX_FILE = 1 << 40
"""Bytes of any file."""
MAX_GRAPH = 256 << 20
"""Bytes of a graph without its weights."""
MAX_TEXT = 64 << 20
"""Bytes of a tokenizer or a vocabulary."""
MAX_SIDE = 8_192
"""Pixels."""
MAX_PIXELS = 1 << 26
MAX_LATENTS = 1 << 24
"""Values of one picture's noise."""
MAX_TOKENS = 1_024
MAX_STEPS = 4
MAX_BATCH = 256
"""Pictures that a plan draws at once."""

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
    steps: int
    """Denoising steps that it takes."""
    prior: str
    """The kind of prior that it holds, or "gaussian"."""
    precision: str
    """One of PRECISIONS."""
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    opset: int
    weights: tuple[str, ...]
    """Files that hold its external data."""


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
    """A learned prior; at strength 0 the graphs that hold it draw from the standard Gaussian."""

    component: Component
    """Its sha256 is that of the checkpoint."""
    kl_nats: float | None
    """KL divergence from the standard Gaussian, mean over the prompts of the parity gate; null if unknown."""


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
    """A plan for some kinds of devices; any difference in these makes it unusable."""

    file: str
    graph: str
    """The file of the graph that it was built from."""
    graph_sha256: str
    runtime: str
    """"tensorrt" or "tensorrt-rtx"."""
    runtime_version: str
    compute_capabilities: tuple[str, ...]
    """As NVIDIA numbers its GPUs, without the dot: "86" is the RTX 30 series."""
    batch: tuple[int, int, int]
    """Least pictures at once, the number that it is best at, and most."""


@dataclass(frozen=True)
class Parity(Record):
    """What a graph's pictures were compared with, and how close they came."""

    graph: str
    """Its file, or "PyTorch fp32, 2 steps": the model that graphs are made from, with the first prior."""
    against: str
    """The other one; after each "; " follows what differs there on purpose, or why diffusers was not asked."""
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
    graphs: tuple[Graph, ...]
    """One for each number of steps, prior and precision; the precision of the first is the default. Where there are
    priors, there may be none without."""
    engines: tuple[Engine, ...]
    parity: tuple[Parity, ...]
    files: dict[str, FileRecord]
    """Every file of the bundle but the manifest: path inside the bundle, with "/" -> what it must be."""
    tools: dict[str, str]
    """Package -> version that made the bundle."""
    card: Card | None
    vocabulary: str | None
    """The file that lists the words which the model knows."""


def read_manifest(raw: bytes, where: str) -> Manifest:
    """`raw` is pahi.json's content, `where` its place in messages. Raises BundleError."""
    if len(raw) > MAX_MANIFEST:
        raise BundleError(f"{where} has more than {MAX_MANIFEST} bytes", fix=FIX)
    data = parse_json(raw, where)
    version = data.get("format_version") if isinstance(data, dict) else None
    if type(version) is not int or version < 1:
        raise BundleError(f"{where} holds no usable format_version", fix=FIX)
    if version != FORMAT_VERSION:
        fix = "pip install --upgrade pahi-rt" if version > FORMAT_VERSION else FIX
        raise BundleError(f"{where} is of bundle format {version}; this version reads {FORMAT_VERSION}", fix=fix)
    manifest = Manifest.from_dict(data, where)
    check_manifest(manifest, where)
    return manifest


def check_manifest(manifest: Manifest, where: str = MANIFEST) -> None:
    """Raises BundleError unless names are safe, every file that is named is listed, and sizes make sense."""
    _check_files(manifest, where)
    _check_sizes(manifest, where)
    _check_graphs(manifest, where)
    _check_engines(manifest, where)


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


def _check_files(manifest: Manifest, where: str) -> None:
    if len(manifest.files) > MAX_FILES:
        raise BundleError(f"{where} lists {len(manifest.files)} files, and {MAX_FILES} are allowed", fix=FIX)
    for name, record in manifest.files.items():
        if not is_safe_name(name) or name == MANIFEST:
            raise BundleError(f"{where}: {name!r} is not a path inside the bundle", fix=FIX)
        if is_pickle_name(name):
            raise BundleError(f"{where}: {name} is a pickle; a bundle must hold none", fix=FIX)
        if not 0 <= record.size < MAX_FILE or not _SHA256.fullmatch(record.sha256):
            raise BundleError(f"{where}: files: {name}: no usable size and sha256", fix=FIX)
    for name, most in _named_files(manifest).items():
        if name not in manifest.files:
            raise BundleError(f"{where}: {name!r} is used but not listed under files", fix=FIX)
        if manifest.files[name].size > most:
            raise BundleError(f"{where}: files: {name} has more than {most} bytes", fix=FIX)


def _check_sizes(manifest: Manifest, where: str) -> None:
    image, tokenizer = manifest.image, manifest.tokenizer
    ranges = {
        "height": (image.height, 1, MAX_SIDE),
        "width": (image.width, 1, MAX_SIDE),
        "pixels": (image.height * image.width, 1, MAX_PIXELS),
        "least of latent_shape": (min(image.latent_shape), 1, MAX_LATENTS),
        "values of latent_shape": (math.prod(image.latent_shape), 1, MAX_LATENTS),
        "max_length": (tokenizer.max_length, 2, MAX_TOKENS),
        "pad_id": (tokenizer.pad_id, 0, 2**31 - 1),
    }
    for name, (value, least, most) in ranges.items():
        if not least <= value <= most:
            what = f"{where}: image or tokenizer sizes make no sense: {name} is {value}, not {least} to {most}"
            raise BundleError(what, fix=FIX)


def _check_graphs(manifest: Manifest, where: str) -> None:
    if not 1 <= len(manifest.graphs) <= MAX_GRAPHS:
        what = f"{len(manifest.graphs)} graphs" if manifest.graphs else "no graphs"
        raise BundleError(f"{where}: there are {what}", fix=FIX)
    for kind in manifest.priors:
        if kind not in PRIORS:
            raise BundleError(f"{where}: priors: {kind!r} is none of {', '.join(PRIORS)}", fix=FIX)
        if kind not in {graph.prior for graph in manifest.graphs}:
            raise BundleError(f"{where}: priors: {kind} has no graph", fix=FIX)
    seen = set()
    for graph in manifest.graphs:
        place = f"{where}: graphs: {graph.file}"
        is_known = graph.precision in PRECISIONS and graph.prior in (*manifest.priors, GAUSSIAN)
        if not is_known or not 1 <= graph.steps <= MAX_STEPS:
            what = f"{graph.steps} steps, prior {graph.prior!r} and precision {graph.precision!r}"
            raise BundleError(f"{place}: {what} make no sense here", fix=FIX)
        if graph.prior != GAUSSIAN and STRENGTH not in {spec.name for spec in graph.inputs}:
            raise BundleError(f"{place} does not take {STRENGTH}", fix=FIX)
        # By another ending runtimes would take it for another format.
        if not graph.file.endswith(".onnx"):
            raise BundleError(f"{place} is not called .onnx", fix=FIX)
        folder = PurePosixPath(graph.file).parent
        if not all(PurePosixPath(name).is_relative_to(folder) for name in graph.weights):
            raise BundleError(f"{place}: its weights lie in another folder", fix=FIX)
        _check_specs(manifest, graph, place)
        if (role := (graph.steps, graph.prior, graph.precision)) in seen:
            raise BundleError(f"{place} is a second graph of {role}", fix=FIX)
        seen.add(role)


def _check_specs(manifest: Manifest, graph: Graph, place: str) -> None:
    """That a graph takes and gives what every runtime hands it and reads from it, in the shapes of this manifest."""
    image = manifest.image
    expected = {
        "input_ids": ("int64", ("batch", manifest.tokenizer.max_length)),
        "noise": ("float32", ("batch", *image.latent_shape)),
        STRENGTH: ("float32", ("batch",)),
    }
    inputs = {spec.name: (spec.dtype, spec.shape) for spec in graph.inputs}
    without = {name: spec for name, spec in expected.items() if name != STRENGTH}
    if len(inputs) < len(graph.inputs) or inputs not in (expected, without):
        raise BundleError(f"{place}: inputs: {inputs} are not {expected}", fix=FIX)
    picture = [("uint8", ("batch", image.height, image.width, 3))]
    outputs = [(spec.dtype, spec.shape) for spec in graph.outputs]
    if outputs != picture:
        raise BundleError(f"{place}: outputs: {outputs} are not {picture}", fix=FIX)


def _check_engines(manifest: Manifest, where: str) -> None:
    """A plan's memory is laid out by these, so what makes no sense would be written beyond it."""
    graphs = {graph.file: graph for graph in manifest.graphs}
    for engine in manifest.engines:
        place = f"{where}: engines: {engine.file}"
        if engine.graph not in graphs:
            raise BundleError(f"{place} is of {engine.graph!r}, which is no graph", fix=FIX)
        least, best, most = engine.batch
        if not 1 <= least <= best <= most <= MAX_BATCH:
            raise BundleError(f"{place}: no batch goes from {least} over {best} to {most}", fix=FIX)


def _named_files(manifest: Manifest) -> dict[str, int]:
    """Name of each file that something refers to -> the most bytes that it may have."""
    most = {name: MAX_FILE for graph in manifest.graphs for name in graph.weights}
    most |= {name: MAX_FILE for engine in manifest.engines for name in (engine.file, engine.graph)}
    most |= {name: MAX_TEXT for name in (manifest.tokenizer.file, manifest.vocabulary) if name is not None}
    return most | {graph.file: MAX_GRAPH for graph in manifest.graphs}
