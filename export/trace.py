"""From a model to its graphs: draw with PyTorch, round, trace, store.

Every graph is a `Variant`: a number of steps, and a prior or none.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import onnx_ir as ir

from pahi_rt.bundle import Graph, ImageSpec, PriorSpec, TensorSpec, TokenizerSpec
from pahi_rt.errors import PahiError
from pahi_rt.export.fused import PRIOR_SCOPE, Fused, FusedGenerator, FusedPrior
from pahi_rt.export.graph import export_graph
from pahi_rt.export.parity import Inputs, Pictures, draw_reference, fixed_inputs, mean_kl, with_strengths
from pahi_rt.export.provenance import describe_prior
from pahi_rt.export.weights import Storage, WeightsFile, round_matrices, store_weights
from pahi_rt.manifest import GAUSSIAN
from pahi_rt.tokenizer import Tokenizer
from pahi_rt.train.generators import Generator, load_generator
from pahi_rt.train.priors import Prior, check_fit, load_prior

WEIGHTS = "weights.bin"
STEMS = {1: "one-step", 2: "two-step", 3: "three-step", 4: "four-step"}
PRECISIONS: dict[Storage, str] = {"float32": "fp32", "float16": "fp16"}

OnStage = Callable[[str, float, int | None], None]
"""Called after each stage with its name, its seconds, and the bytes that it wrote, if any."""


@dataclass(frozen=True)
class Variant:
    """One graph of a bundle."""

    steps: int
    prior: str
    """A kind, or "gaussian" for none."""

    @property
    def file(self) -> str:
        """one-step.onnx, one-step-pahi.onnx, ..."""
        return STEMS[self.steps] + ("" if self.prior == GAUSSIAN else f"-{self.prior}") + ".onnx"


@dataclass(frozen=True)
class Model:
    """What is exported: a generator, and priors by kind, in fp32 or rounded."""

    generator: Generator
    priors: Mapping[str, Prior]
    checkpoints: Mapping[str, Path]
    """Of the priors."""

    def variants(self, steps: Sequence[int]) -> list[Variant]:
        """A graph for each number of steps and each prior. With priors none is without: they have strength 0."""
        return [Variant(count, kind) for count in steps for kind in self.priors or (GAUSSIAN,)]

    def fuse(self, variant: Variant) -> Fused:
        """The module that becomes the graph."""
        if variant.prior == GAUSSIAN:
            return FusedGenerator(self.generator, variant.steps)
        return FusedPrior(self.generator, variant.steps, self.priors[variant.prior])

    def draw(self, inputs: Inputs, variants: Sequence[Variant]) -> dict[Variant, Pictures]:
        """What PyTorch draws in place of each graph."""
        priors = {GAUSSIAN: None, **self.priors}
        return {v: draw_reference(self.generator, inputs, v.steps, priors[v.prior]) for v in variants}

    def round(self) -> None:
        """Round all matrices to what float16 can hold, in place."""
        for module in (self.generator, *self.priors.values()):
            round_matrices(module)


@dataclass(frozen=True)
class Traced:
    """What is left of the PyTorch model once its graphs are written; the model itself is freed."""

    tokenizer: TokenizerSpec
    image: ImageSpec
    graphs: dict[Variant, Graph]
    priors: dict[str, PriorSpec]
    inputs: Inputs
    references: dict[Variant, Pictures]
    """What PyTorch draws from `inputs` with the weights that were stored."""
    originals: dict[Variant, Pictures] | None
    """The same before the weights were rounded, where they were."""


class Stages:
    """Times the stages of an export, and reports how much each has added to `folder`."""

    def __init__(self, folder: Path, report: OnStage | None) -> None:
        self._folder = folder
        self._report = report

    @contextmanager
    def __call__(self, name: str) -> Iterator[None]:
        before, start = self._size(), time.perf_counter()
        yield
        if self._report is not None:
            self._report(name, time.perf_counter() - start, self._size() - before or None)

    def _size(self) -> int:
        return sum(path.stat().st_size for path in files_in(self._folder))


def files_in(folder: Path) -> list[Path]:
    """All files below `folder`, sorted."""
    return sorted(path for path in folder.rglob("*") if path.is_file())


def load_model(folder: Path, priors: Sequence[Path], decoder: str | Path | None = None) -> Model:
    """The diffusers model in `folder` and the checkpoints `priors`; `decoder` as for `load_generator`.

    Raises PahiError for a model that cannot be loaded, a prior that cannot be read or does not fit it, or two of one
    kind.
    """
    generator = load_generator(folder, decoder)
    loaded: dict[str, Prior] = {}
    checkpoints: dict[str, Path] = {}
    for path in priors:
        prior = load_prior(path).requires_grad_(False)
        check_fit(prior, generator)
        if prior.kind in loaded:
            what = f"{path} is a second {prior.kind.upper()}; a bundle holds one prior of each kind"
            raise PahiError(what, fix="leave one of them out, or make another bundle of it")
        loaded[prior.kind], checkpoints[prior.kind] = prior, path
    return Model(generator, loaded, checkpoints)


def trace(
    model: Model,
    tokenizer: TokenizerSpec,
    folder: Path,
    steps: Sequence[int],
    storage: Storage,
    opset: int,
    stages: Stages,
) -> Traced:
    """Write all graphs and their weights into `folder`, where the tokenizer is."""
    variants, inputs = model.variants(steps), _inputs(model, tokenizer, folder)
    with stages("draw with PyTorch"):
        references, originals = model.draw(inputs, variants), None
    if storage == "float16":
        with stages("round weights to fp16 and draw again"):
            model.round()
            references, originals = model.draw(inputs, variants), references
    graphs = write_graphs(model, variants, folder, storage, opset, stages)
    height, width = references[variants[0]].levels.shape[1:3]
    image = ImageSpec(height, width, model.generator.latent_shape)
    priors = {kind: _describe_prior(model, kind, graphs, inputs) for kind in model.priors}
    return Traced(tokenizer, image, graphs, priors, inputs, references, originals)


def graphs_of(prior: str, graphs: Mapping[Variant, Graph]) -> dict[int, Graph]:
    """Steps -> graph with that prior, or without any for "gaussian"."""
    return {variant.steps: graph for variant, graph in graphs.items() if variant.prior == prior}


def _inputs(model: Model, tokenizer: TokenizerSpec, folder: Path) -> Inputs:
    reader = Tokenizer(folder / tokenizer.file, tokenizer.max_length, tokenizer.pad_id)
    inputs = fixed_inputs(reader, model.generator.latent_shape)
    return with_strengths(inputs) if model.priors else inputs


def _describe_prior(model: Model, kind: str, graphs: Mapping[Variant, Graph], inputs: Inputs) -> PriorSpec:
    kl = mean_kl(model.generator, inputs, model.priors[kind])
    return PriorSpec(describe_prior(model.checkpoints[kind]), kl, graphs_of(kind, graphs))


def write_graphs(
    model: Model, variants: Sequence[Variant], folder: Path, storage: Storage, opset: int, stages: Stages
) -> dict[Variant, Graph]:
    """Write `variants` into `folder`: the generator's weights into weights.bin, each prior's into KIND.bin."""
    graphs = {}
    with ExitStack() as files:
        weights = files.enter_context(WeightsFile(folder / WEIGHTS))
        own = {kind: files.enter_context(WeightsFile(folder / prior_file(kind))) for kind in model.priors}
        for variant in variants:
            with stages(f"export {variant.file}"):
                graph = export_graph(model.fuse(variant), opset)
                if variant.prior in own:
                    store_weights(graph, own[variant.prior], storage, scope=PRIOR_SCOPE)
                store_weights(graph, weights, storage)
                ir.save(graph, folder / variant.file)
            graphs[variant] = _describe_graph(graph, variant.file, storage, opset)
    return graphs


def prior_file(kind: str) -> str:
    """The file of a prior's own weights."""
    return f"{kind}.bin"


def _describe_graph(model: ir.Model, file: str, storage: Storage, opset: int) -> Graph:
    inputs, outputs = (tuple(map(_tensor_spec, values)) for values in (model.graph.inputs, model.graph.outputs))
    return Graph(file, inputs, outputs, opset, PRECISIONS[storage])


def _tensor_spec(value: ir.Value) -> TensorSpec:
    assert value.name and value.dtype and value.shape  # the exporter gives all three
    sizes = tuple(size if isinstance(size, int) else str(size.value) for size in value.shape)
    return TensorSpec(value.name, value.dtype.numpy().name, sizes)
