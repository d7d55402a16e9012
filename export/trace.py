"""From a model to its graphs, one precision after the other: convert, trace, store.

Every graph is a `Variant`: a number of steps, a prior or none, and a precision.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import onnx_ir as ir

from pahi_rt.bundle import Graph, ImageSpec, PriorSpec, TensorSpec, TokenizerSpec
from pahi_rt.errors import PahiError
from pahi_rt.export.fused import PRIOR_SCOPE, Fused, FusedGenerator, FusedPrior
from pahi_rt.export.graph import export_graph
from pahi_rt.export.journal import FILE as JOURNAL
from pahi_rt.export.journal import Journal
from pahi_rt.export.parity import (
    LESS_PRECISION,
    SAME_ARITHMETIC,
    Inputs,
    Pictures,
    Reference,
    draw_reference,
    fixed_inputs,
    mean_kl,
    with_strengths,
)
from pahi_rt.export.precision import halve, round_matrices
from pahi_rt.export.provenance import describe_prior
from pahi_rt.export.weights import WeightsFile, store_weights
from pahi_rt.manifest import GAUSSIAN
from pahi_rt.tokenizer import Tokenizer
from pahi_rt.train.generators import Generator, load_generator
from pahi_rt.train.priors import Prior, check_fit, load_prior

STEMS = {1: "one-step", 2: "two-step", 3: "three-step", 4: "four-step"}

Drawn = dict[tuple[int, str], Pictures]
"""Steps and prior -> pictures."""
OnStage = Callable[[str, float, int | None], None]
"""Called after each stage with its name, its seconds, and the bytes that it wrote, if any."""


@dataclass(frozen=True)
class Variant:
    """One graph of a bundle."""

    steps: int
    prior: str
    """A kind, or "gaussian" for none."""
    precision: str

    @property
    def file(self) -> str:
        """one-step.onnx, one-step-pahi-fp16.onnx, ..."""
        return name_file(
            STEMS[self.steps] + ("" if self.prior == GAUSSIAN else f"-{self.prior}"), self.precision, "onnx"
        )


def name_file(stem: str, precision: str, suffix: str) -> str:
    """weights.bin, weights-fp16.bin, ..."""
    return stem + ("" if precision == "fp32" else f"-{precision}") + f".{suffix}"


@dataclass(frozen=True)
class Model:
    """What is exported: a generator, and priors by kind, in fp32."""

    generator: Generator
    priors: Mapping[str, Prior]
    checkpoints: Mapping[str, Path]
    """Of the priors."""

    def variants(self, steps: Sequence[int], precision: str) -> list[Variant]:
        """A graph for each number of steps and each prior. With priors none is without: they have strength 0."""
        return [Variant(count, kind, precision) for count in steps for kind in self.priors or (GAUSSIAN,)]

    def fuse(self, variant: Variant) -> Fused:
        """The module that becomes the graph, still in fp32."""
        if variant.prior == GAUSSIAN:
            return FusedGenerator(self.generator, variant.steps)
        return FusedPrior(self.generator, variant.steps, self.priors[variant.prior])

    def draw(self, inputs: Inputs, steps: Sequence[int]) -> Drawn:
        """What PyTorch draws in place of each graph."""
        priors: Mapping[str, Prior | None] = self.priors or {GAUSSIAN: None}
        return {
            (count, kind): draw_reference(self.generator, inputs, count, prior)
            for count in steps
            for kind, prior in priors.items()
        }

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
    references: dict[Variant, list[Reference]]
    """What PyTorch draws from `inputs`."""


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
    """All files below `folder` but the journal, sorted."""
    return sorted(path for path in folder.rglob("*") if path.is_file() and path.name != JOURNAL)


def load_model(
    folder: Path, priors: Sequence[Path], decoder: str | Path | None = None, size: tuple[int, int] | None = None
) -> Model:
    """The diffusers model in `folder` and the checkpoints `priors`; `decoder` and `size` as for `load_generator`.

    Raises PahiError for a model that cannot be loaded, a prior that cannot be read or does not fit it, or two of one
    kind.
    """
    generator = load_generator(folder, decoder, size)
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
    load: Callable[[], Model],
    prepare: Callable[[Model], TokenizerSpec],
    folder: Path,
    steps: Sequence[int],
    precisions: Sequence[str],
    opset: int,
    stages: Stages,
    journal: Journal,
) -> Traced:
    """Write all graphs and their weights into `folder`, but for those that `journal` has.

    `prepare` checks what there is to check and writes the tokenizer into `folder`. `load` is called again for each
    further precision, since less precision cannot be undone.
    """
    with stages("load model"):
        model = load()
        tokenizer = prepare(model)
    inputs = _inputs(model, tokenizer, folder)
    with stages("draw with PyTorch"):
        drawn = model.draw(inputs, steps)
    height, width = next(iter(drawn.values())).levels.shape[1:3]
    image = ImageSpec(height, width, model.generator.latent_shape)
    priors = {kind: _describe_prior(model, kind, inputs) for kind in model.priors}
    graphs: dict[Variant, Graph] = {}
    references: dict[Variant, list[Reference]] = {}
    for index, precision in enumerate(precisions):
        if index:
            with stages("load model again"):
                model = load()
        variants = model.variants(steps, precision)
        rounded = _round(model, inputs, steps, stages) if precision == "w16" else None
        references |= {v: refer(v, drawn, rounded) for v in variants}
        write = partial(write_graphs, model, variants, precision, folder, opset, stages)
        graphs |= dict(zip(variants, journal.graphs(precision, write), strict=True))
    return Traced(tokenizer, image, graphs, priors, inputs, references)


def refer(variant: Variant, drawn: Drawn, rounded: Drawn | None) -> list[Reference]:
    """What a graph has to draw: what PyTorch does, and if its matrices are rounded, what PyTorch does with those."""
    place = variant.steps, variant.prior
    if rounded is not None:
        return [
            Reference("PyTorch fp32, matrices rounded to fp16", rounded[place], SAME_ARITHMETIC),
            Reference("PyTorch fp32, weights as trained", drawn[place], LESS_PRECISION),
        ]
    tolerance = SAME_ARITHMETIC if variant.precision == "fp32" else LESS_PRECISION
    return [Reference("PyTorch fp32", drawn[place], tolerance)]


def _round(model: Model, inputs: Inputs, steps: Sequence[int], stages: Stages) -> Drawn:
    with stages("round weights to fp16 and draw again"):
        model.round()
        return model.draw(inputs, steps)


def _inputs(model: Model, tokenizer: TokenizerSpec, folder: Path) -> Inputs:
    reader = Tokenizer(folder / tokenizer.file, tokenizer.max_length, tokenizer.pad_id)
    inputs = fixed_inputs(reader, model.generator.latent_shape)
    return with_strengths(inputs) if model.priors else inputs


def _describe_prior(model: Model, kind: str, inputs: Inputs) -> PriorSpec:
    kl = mean_kl(model.generator, inputs, model.priors[kind])
    return PriorSpec(describe_prior(model.checkpoints[kind]), kl)


def write_graphs(
    model: Model, variants: Sequence[Variant], precision: str, folder: Path, opset: int, stages: Stages
) -> list[Graph]:
    """Write the `variants` of one precision into `folder`, and files of the generator's and each prior's weights.

    Leaves `model` as it is in that precision.
    """
    # All before any is halved: timesteps are folded in fp32.
    modules = {variant: model.fuse(variant) for variant in variants}
    if precision == "fp16":
        for fused in modules.values():
            halve(fused)
    graphs = []
    with ExitStack() as files:
        weights = files.enter_context(WeightsFile(folder / name_file("weights", precision, "bin")))
        own = {k: files.enter_context(WeightsFile(folder / name_file(k, precision, "bin"))) for k in model.priors}
        for variant, fused in modules.items():
            with stages(f"export {variant.file}"):
                graph = export_graph(fused, opset)
                if variant.prior in own:
                    store_weights(graph, own[variant.prior], compact=precision == "w16", scope=PRIOR_SCOPE)
                store_weights(graph, weights, compact=precision == "w16")
                ir.save(graph, folder / variant.file)
            graphs.append(_describe_graph(graph, variant, opset))
    return graphs


def _describe_graph(model: ir.Model, variant: Variant, opset: int) -> Graph:
    inputs, outputs = (tuple(map(_tensor_spec, values)) for values in (model.graph.inputs, model.graph.outputs))
    stored = (value.const_value for value in model.graph.initializers.values())
    weights = sorted({str(tensor.location) for tensor in stored if isinstance(tensor, ir.ExternalTensor)})
    return Graph(variant.file, variant.steps, variant.prior, variant.precision, inputs, outputs, opset, tuple(weights))


def _tensor_spec(value: ir.Value) -> TensorSpec:
    assert value.name and value.dtype and value.shape  # the exporter gives all three
    sizes = tuple(size if isinstance(size, int) else str(size.value) for size in value.shape)
    return TensorSpec(value.name, value.dtype.numpy().name, sizes)
