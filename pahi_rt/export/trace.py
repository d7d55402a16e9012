"""From a model to its graphs, one precision after the other: convert, trace, store.

Every graph is a `Variant`: a number of steps, a prior or none, and a precision.
"""

from __future__ import annotations

import ctypes
import gc
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import onnx_ir as ir

from pahi_rt.errors import PahiError
from pahi_rt.export.calibration import GENERAL
from pahi_rt.export.fused import PRIOR_SCOPE, Fused, FusedGenerator, FusedPrior
from pahi_rt.export.graph import PORTABLE_OPSET, check_opset, export_graph, release
from pahi_rt.export.journal import Journal
from pahi_rt.export.parity import (
    SAME_ARITHMETIC,
    Inputs,
    Pictures,
    Reference,
    Tolerance,
    draw_reference,
    fixed_inputs,
    mean_kl,
    split_rows,
    with_strengths,
)
from pahi_rt.export.precision import ALL, halve
from pahi_rt.export.provenance import describe_prior
from pahi_rt.export.quantise import quantise
from pahi_rt.export.reference import DiffusersPipeline, check_pictures, find_obstacle, pipeline_class
from pahi_rt.export.rounding import Round, round_matrices, to_float16
from pahi_rt.export.weights import WeightsFile, store_weights
from pahi_rt.manifest import GAUSSIAN, Graph, ImageSpec, Parity, PriorSpec, TensorSpec, TokenizerSpec
from pahi_rt.models.generators import Generator, load_generator
from pahi_rt.models.loras import Lora
from pahi_rt.models.priors import Prior, check_fit, find_prior, load_prior
from pahi_rt.tokenizer import Tokenizer

STEMS = {1: "one-step", 2: "two-step", 3: "three-step", 4: "four-step"}

CALIBRATION_SEED = 1000
"""Of the first picture; the gate's noises are others."""

Drawn = dict[tuple[int, str], Pictures]
"""Steps and prior -> pictures."""
OnStage = Callable[[str, float, int | None], None]
"""Called after each stage with its name, its seconds, and the bytes that it wrote, if any."""


@dataclass(frozen=True)
class ExportSettings:
    """Which graphs a bundle gets. Raises PahiError for what there is not, or for the same thing twice."""

    steps: tuple[int, ...] = (1, 2)
    precisions: tuple[str, ...] = ("fp32",)
    """The first is the bundle's default."""
    opset: int = PORTABLE_OPSET
    calibration: tuple[str, ...] = GENERAL
    """Prompts that int8 takes its ranges from."""
    min_psnr: float | None = None
    """How near to PyTorch fp32 a graph of fewer bits must come, in dB; None for what `precision` asks for."""

    def __post_init__(self) -> None:
        if self.min_psnr is not None and not self.min_psnr > 0:
            raise PahiError(f"{self.min_psnr:g} dB is no PSNR to ask for", fix="give --min-psnr a number above 0")
        _check_choice("graphs of the steps", self.steps, STEMS)
        _check_choice("graphs of the precision", self.precisions, ALL)
        check_opset(self.opset)

    def near(self, precision: str) -> Tolerance:
        """How near to PyTorch fp32, weights as trained, a graph's pictures must come."""
        near = ALL[precision].near
        return near if self.min_psnr is None or not near.psnr_db else replace(near, psnr_db=self.min_psnr)


def _check_choice(what: str, chosen: Sequence[object], known: Iterable[object]) -> None:
    names = ", ".join(map(str, known))
    if not chosen or len(set(chosen)) < len(chosen) or not set(chosen) <= set(known):
        what = f"cannot export {what} {', '.join(map(str, chosen)) or 'none'}"
        raise PahiError(what, fix=f"name one or more of {names}, each once")


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
    pipeline: str
    """Its class in diffusers."""

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

    def release(self) -> None:
        """Let go of all weights: the optimiser's rules keep those of the graph that they have looked at last."""
        for module in (self.generator, *self.priors.values()):
            for parameter in module.parameters():
                parameter.data = parameter.data.new_empty(0)

    def round(self, to: Round) -> None:
        """Round all matrices of the generator, in place, and those of its priors to what float16 can hold.

        They are few, and decide what all else starts from.
        """
        round_matrices(self.generator, to)
        for prior in self.priors.values():
            round_matrices(prior, to_float16)


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
    parity: tuple[Parity, ...]
    """How near PyTorch comes to diffusers."""


class Stages:
    """Times the stages of an export, and reports how much each has added to `folder`."""

    def __init__(self, folder: Path, report: OnStage | None) -> None:
        self._folder = folder
        self._report = report

    @contextmanager
    def __call__(self, name: str) -> Iterator[None]:
        before, start = self._size(), time.perf_counter()
        _free_memory()
        yield
        if self._report is not None:
            self._report(name, time.perf_counter() - start, self._size() - before or None)

    def _size(self) -> int:
        return sum(path.stat().st_size for path in files_in(self._folder))


def _free_memory() -> None:
    """Give back what the stage before has left, gigabytes that this one needs.

    The exporter leaves cycles of objects, and glibc keeps what has been freed.
    """
    gc.collect()
    if sys.platform == "linux":
        library = ctypes.CDLL(None)
        if hasattr(library, "malloc_trim"):  # musl has none
            library.malloc_trim(0)


def files_in(folder: Path) -> list[Path]:
    """All files below `folder`, sorted."""
    return sorted(path for path in folder.rglob("*") if path.is_file())


def load_model(
    folder: Path,
    priors: Sequence[Path],
    decoder: str | Path | None = None,
    size: tuple[int, int] | None = None,
    *,
    variant: str | None = None,
    loras: Sequence[Lora] = (),
) -> Model:
    """The diffusers model in `folder` and the checkpoints `priors`; the rest as for `load_generator`.

    Raises PahiError for a model that cannot be loaded, a prior that cannot be read or does not fit it, or two of one
    kind.
    """
    generator = load_generator(folder, decoder, size, variant=variant, loras=loras)
    loaded: dict[str, Prior] = {}
    checkpoints: dict[str, Path] = {}
    for path in map(find_prior, priors):
        prior = load_prior(path).requires_grad_(False)
        check_fit(prior, generator)
        if prior.kind in loaded:
            what = f"{path} is a second {prior.kind.upper()}; a bundle holds one prior of each kind"
            raise PahiError(what, fix="leave one of them out, or make another bundle of it")
        loaded[prior.kind], checkpoints[prior.kind] = prior, path
    return Model(generator, loaded, checkpoints, pipeline_class(folder))


def trace(
    load: Callable[[], Model],
    prepare: Callable[[Model], TokenizerSpec],
    folder: Path,
    settings: ExportSettings,
    stages: Stages,
    journal: Journal,
) -> Traced:
    """Write all graphs and their weights into `folder`, but for those that `journal` has.

    `prepare` checks what there is to check and writes the tokenizer into `folder`. `load` is called again for each
    further precision, since less precision cannot be undone.
    """
    with stages("load model"):
        model = load()
        spec = prepare(model)
    tokenizer = Tokenizer(folder / spec.file, spec.max_length, spec.pad_id)
    inputs = _complete(fixed_inputs(tokenizer, model.generator.latent_shape), model)
    seen = fixed_inputs(tokenizer, model.generator.latent_shape, settings.calibration, CALIBRATION_SEED)
    calibration = _complete(seen, model)
    with stages("draw with PyTorch"):
        drawn = model.draw(inputs, settings.steps)
    obstacle = find_obstacle(model.generator, model.pipeline)
    parity = () if obstacle else check_generator(model, inputs, drawn, stages, journal)
    height, width = next(iter(drawn.values())).levels.shape[1:3]
    image = ImageSpec(height, width, model.generator.latent_shape)
    priors = {kind: _describe_prior(model, kind, inputs) for kind in model.priors}
    graphs: dict[Variant, Graph] = {}
    references: dict[Variant, list[Reference]] = {}
    for index, precision in enumerate(settings.precisions):
        if index:
            with stages("load model again"):
                model = load()
        variants, arithmetic = model.variants(settings.steps, precision), ALL[precision]
        if arithmetic.round is not None:
            with stages("round weights"):
                model.round(arithmetic.round)
        rounded = None
        if arithmetic.is_only_rounded:
            with stages("draw with PyTorch again"):
                rounded = model.draw(inputs, settings.steps)
        references |= {v: refer(v, drawn, rounded, settings.near(precision), obstacle) for v in variants}
        write = partial(write_graphs, model, variants, calibration, folder, settings.opset, stages)
        graphs |= dict(zip(variants, journal.graphs(precision, write), strict=True))
        model.release()
    return Traced(spec, image, graphs, priors, inputs, references, parity)


def check_generator(model: Model, inputs: Inputs, drawn: Drawn, stages: Stages, journal: Journal) -> tuple[Parity, ...]:
    """A row for each number of steps: what PyTorch has `drawn`, with the first prior, against diffusers' pipeline.

    Raises ParityError if they differ, or diffusers cannot draw.
    """
    pipeline, first = DiffusersPipeline(model.generator, model.pipeline), next(iter(model.priors), GAUSSIAN)

    def check(name: str, steps: int) -> list[Parity]:
        ours = drawn[steps, first]
        if not ours.are_numbers:  # which the graph's check refuses, and names the node
            return []
        with stages(f"compare {name} with diffusers"):
            return [check_pictures(name, ours, pipeline, inputs, steps, model.priors.get(first))]

    names = {steps: f"PyTorch fp32, {steps} step{'s' * (steps > 1)}" for steps, _ in drawn}
    return tuple(row for steps, name in names.items() for row in journal.parity(name, partial(check, name, steps)))


def refer(
    variant: Variant, drawn: Drawn, rounded: Drawn | None, near: Tolerance, obstacle: str | None = None
) -> list[Reference]:
    """What a graph has to draw: what PyTorch does, and if its matrices are rounded, what PyTorch does with those.

    `obstacle` is why that was not compared with diffusers.
    """
    place, note = (variant.steps, variant.prior), f"; diffusers cannot draw it: {obstacle}" if obstacle else ""
    if rounded is None:
        return [Reference(f"PyTorch fp32{note}", drawn[place], near)]
    return [
        Reference("PyTorch fp32, matrices rounded", rounded[place], SAME_ARITHMETIC),
        Reference(f"PyTorch fp32, weights as trained{note}", drawn[place], near),
    ]


def _complete(inputs: Inputs, model: Model) -> Inputs:
    return with_strengths(inputs) if model.priors else inputs


def _describe_prior(model: Model, kind: str, inputs: Inputs) -> PriorSpec:
    kl = mean_kl(model.generator, inputs, model.priors[kind])
    return PriorSpec(describe_prior(model.checkpoints[kind]), kl)


def write_graphs(
    model: Model, variants: Sequence[Variant], calibration: Inputs, folder: Path, opset: int, stages: Stages
) -> list[Graph]:
    """Write the `variants`, of one precision, into `folder`, and files of the generator's and each prior's weights.

    Leaves `model` as it is in that precision.
    """
    precision = variants[0].precision
    arithmetic = ALL[precision]
    # All before any is halved: timesteps are folded in fp32.
    modules = {variant: model.fuse(variant) for variant in variants}
    if arithmetic.is_halved:
        for fused in modules.values():
            halve(fused)
    graphs = []
    with ExitStack() as files:
        weights = files.enter_context(WeightsFile(folder / name_file("weights", precision, "bin")))
        own = {k: files.enter_context(WeightsFile(folder / name_file(k, precision, "bin"))) for k in model.priors}
        for variant, fused in modules.items():
            with stages(f"export {variant.file}"), TemporaryDirectory(dir=folder) as scratch:
                graph = export_graph(fused, opset)
                if arithmetic.is_quantised:
                    graph = quantise(graph, split_rows(calibration), Path(scratch))
                if variant.prior in own:
                    store_weights(graph, own[variant.prior], arithmetic.pack, scope=PRIOR_SCOPE)
                store_weights(graph, weights, arithmetic.pack)
                ir.save(graph, folder / variant.file)
            graphs.append(_describe_graph(graph, variant, opset))
            release(graph.graph.initializers.values())
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
