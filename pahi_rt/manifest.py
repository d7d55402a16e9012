"""The manifest of a bundle as dataclasses: everything that the runtime may know about it.

manifest_file.py reads pahi.json into these, and writes it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Protocol

from pahi_rt.record import Record
from pahi_rt.schema import IF_ANY

FORMAT_VERSION = 4
"""The format that this version writes."""
FORMATS = (3, 4)
"""The formats that this version reads. 3 has no scorers. 1 and 2 had one precision, and were never released."""
MANIFEST = "pahi.json"
REPORT = "qualification.json"
"""The report of `pahi-rt qualify`: the one listed file that changes no picture."""
PRIORS = ("pahi", "hi")
"""Kinds of learned priors, in order of preference: the first that a bundle has is its default."""
GAUSSIAN = "gaussian"
"""Stands in place of a kind of prior for standard Gaussian noise."""
STRENGTH = "prior_strength"
"""The input that only graphs with a prior have: float32 [batch], 0..1."""
IMAGE, IDS, SCORE = "image", "input_ids", "score"
"""Pictures, which generators make and scorers take; token ids; and what scorers make."""

PRECISIONS = ("fp32", "w16", "w8", "int8", "fp16")
"""fp32, fp16: the precision of weights and arithmetic. w16, w8: 32-bit arithmetic with weights stored in 16 or 8 bits.
int8: 8-bit arithmetic in convolutions and matrix products. docs/bundle.md has the exceptions."""

_PICKLES = (".ckpt", ".joblib", ".pickle", ".pkl", ".pt", ".pth")
_NAME = re.compile(r"[\w.+@ -]+(/[\w.+@ -]+)*")


@dataclass(frozen=True)
class TensorSpec(Record):
    """An input or an output of a graph."""

    name: str
    dtype: str
    """In numpy's spelling: "int64", "float32", "uint8"."""
    shape: tuple[int | str, ...]
    """Sizes; "batch" for the dynamic axis."""


class OnnxFile(Protocol):
    """What a record says of an ONNX graph, whatever it computes."""

    @property
    def file(self) -> str: ...
    @property
    def inputs(self) -> tuple[TensorSpec, ...]: ...
    @property
    def outputs(self) -> tuple[TensorSpec, ...]: ...
    @property
    def weights(self) -> tuple[str, ...]: ...


@dataclass(frozen=True)
class Graph(Record):
    """An ONNX graph from token ids and noise to pictures."""

    file: str
    steps: int
    """Denoising steps."""
    prior: str
    """The kind of prior inside the graph, or "gaussian"."""
    precision: str
    """One of PRECISIONS."""
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    opset: int
    weights: tuple[str, ...]
    """The files that hold the graph's external data."""


@dataclass(frozen=True)
class Component(Record):
    """The provenance record of a part that the graphs were made from: generator, autoencoder or prior."""

    id: str
    revision: str
    sha256: str
    """The sha256 of the weights that it was exported from."""
    licence: str


@dataclass(frozen=True)
class PriorSpec(Record):
    """A learned prior. At strength 0 the graphs that hold it draw from the standard Gaussian."""

    component: Component
    """Provenance of the prior; the sha256 is that of its checkpoint."""
    kl_nats: float | None
    """KL divergence from the standard Gaussian in nats, mean over the prompts of the parity gate; null if unknown."""


@dataclass(frozen=True)
class ImageSpec(Record):
    """The size of the pictures, and of the noise that they are drawn from."""

    height: int
    """Pixels."""
    width: int
    """Pixels."""
    latent_shape: tuple[int, int, int]
    """(C, h, w): channels, height and width of one picture's noise."""


@dataclass(frozen=True)
class TokenizerSpec(Record):
    """The tokenizer, and how prompts are padded."""

    file: str
    max_length: int
    """T: the tokens of a prompt, start and end token included."""
    pad_id: int
    """The token id that fills up shorter prompts."""


@dataclass(frozen=True)
class Plan(Record):
    """A plan: a graph that TensorRT compiled. It runs only where the version, the GPU and the graph are those below."""

    file: str
    graph: str
    """The file of the graph that the plan was built from."""
    graph_sha256: str
    runtime: str
    """"tensorrt" or "tensorrt-rtx"."""
    runtime_version: str
    compute_capabilities: tuple[str, ...]
    """NVIDIA's compute capabilities without the dot: "86" is the RTX 30 series."""
    batch: tuple[int, int, int]
    """Pictures at once: the least, the number that the plan is optimised for, and the most."""


@dataclass(frozen=True)
class Parity(Record):
    """A comparison of pictures: what was compared, and how close it came."""

    graph: str
    """A graph's file, or "PyTorch fp32, 2 steps": the model that the graphs are made from, with the first prior."""
    against: str
    """The reference. After each "; " follows a deliberate difference, or the reason why diffusers was not asked."""
    max_error: float
    """Largest difference of any value of a picture in [0, 1], before rounding."""
    psnr_db: float
    levels_within_one: float
    """Share of the values that differ by at most one level of 255, 0..1."""
    tolerance: str
    """The limit that was asked for, in words."""


@dataclass(frozen=True)
class ScoreParity(Record):
    """A comparison of a scorer's graph with PyTorch."""

    against: str
    """The reference. After each "; " follows a deliberate difference."""
    scores: int
    """Pairs of a picture and a prompt."""
    max_error: float
    """Largest difference of two scores, in the scorer's unit."""
    tolerance: str
    """The limit that was asked for, in words."""


@dataclass(frozen=True)
class ScorerSpec(Record):
    """A preference scorer: an ONNX graph from pictures of the bundle's size and token ids to scores."""

    component: Component
    unit: str
    """The unit of a score."""
    scale: float
    """Factor from a difference of scores to the logit of a preference."""
    file: str
    precision: str
    """One of PRECISIONS."""
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    opset: int
    weights: tuple[str, ...]
    """The files that hold the graph's external data."""
    tokenizer: TokenizerSpec | None
    """The tokenizer of its own; None if it does not read prompts."""
    parity: tuple[ScoreParity, ...]

    @property
    def files(self) -> set[str]:
        """The names of all files that it reads."""
        return {self.file, *self.weights, *([] if self.tokenizer is None else [self.tokenizer.file])}


@dataclass(frozen=True)
class FileRecord(Record):
    """The size and sha256 that a file of the bundle must have."""

    sha256: str
    size: int
    """Bytes."""


@dataclass(frozen=True)
class Card(Record):
    """The facts that a person should know before relying on the model."""

    summary: str
    trained_on: tuple[str, ...]
    licence: str
    limits: tuple[str, ...]
    measured: dict[str, float | str]
    """Quantity with its unit -> value."""


@dataclass(frozen=True)
class Manifest(Record):
    """The content of pahi.json."""

    format_version: int
    name: str
    generator: Component
    autoencoder: Component
    priors: dict[str, PriorSpec]
    """Kind (one of PRIORS) -> prior."""
    image: ImageSpec
    tokenizer: TokenizerSpec
    noise_recipe: str
    graphs: tuple[Graph, ...]
    """One graph for each number of steps, prior and precision; the first graph's precision is the default. A bundle
    with priors need not have a graph without one."""
    engines: tuple[Plan, ...]
    """Plans of TensorRT, which calls them engines in memory; the key of format 1 is named after these."""
    parity: tuple[Parity, ...]
    files: dict[str, FileRecord]
    """Every file of the bundle except the manifest: path inside the bundle, with "/" -> what the file must be."""
    tools: dict[str, str]
    """Package that made the bundle -> its version."""
    card: Card | None
    vocabulary: str | None
    """The file that lists the words that the model knows; None if there is none."""
    scorers: dict[str, ScorerSpec] | None = field(default=None, metadata=IF_ANY)
    """Name -> preference scorer, the default first; None if there are none."""

    @property
    def onnx_files(self) -> list[OnnxFile]:
        """Every graph: the generator's, then those of the scorers."""
        scorers: list[OnnxFile] = [*(self.scorers or {}).values()]
        return [*self.graphs, *scorers]


def is_safe_name(name: str) -> bool:
    """Whether `name` is a relative path with "/" that cannot leave its folder on any system."""
    return _NAME.fullmatch(name) is not None and not {".", ".."} & set(name.split("/"))


def is_pickle_name(name: str) -> bool:
    """Whether `name` ends as the names of pickles do."""
    return name.lower().endswith(_PICKLES)
