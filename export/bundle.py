"""From a diffusers model to a bundle: load, trace, store, check, and only then show the result.

Everything is written into a hidden folder beside the output, which takes its place when all of it is there and every
graph has passed the parity gate. Whatever happens before that leaves nothing behind.
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import onnx_ir as ir

from pahi_rt.bundle import (
    FORMAT_VERSION,
    MANIFEST,
    Bundle,
    Card,
    Graph,
    ImageSpec,
    Manifest,
    Parity,
    TensorSpec,
    TokenizerSpec,
    file_record,
    open_bundle,
    write_manifest,
)
from pahi_rt.errors import OutputError, PahiError
from pahi_rt.export.fused import FusedGenerator, check_exportable
from pahi_rt.export.graph import PORTABLE_OPSET, export_graph
from pahi_rt.export.parity import Inputs, Pictures, check_graph, draw_reference, fixed_inputs
from pahi_rt.export.provenance import describe_components, tool_versions
from pahi_rt.export.tokenizer import FILE as TOKENIZER
from pahi_rt.export.tokenizer import save_tokenizer
from pahi_rt.export.weights import Storage, WeightsFile, round_matrices, store_weights
from pahi_rt.manifest import is_safe_name
from pahi_rt.noise import RECIPE
from pahi_rt.tokenizer import Tokenizer
from pahi_rt.train.components import find_model
from pahi_rt.train.generators import Generator, load_generator

WEIGHTS = "weights.bin"
GRAPHS = {1: "one-step.onnx", 2: "two-step.onnx", 3: "three-step.onnx", 4: "four-step.onnx"}
PRECISIONS: dict[Storage, str] = {"float32": "fp32", "float16": "fp16"}
ROOM_FOR_GRAPHS = 64 * 2**20

OnStage = Callable[[str, float, int | None], None]
"""Called after each stage with its name, its seconds, and the bytes that it wrote, if any."""


def export_bundle(
    model: str | Path,
    output: str | Path,
    *,
    name: str,
    steps: Sequence[int] = (1, 2),
    storage: Storage = "float32",
    opset: int = PORTABLE_OPSET,
    card: Card | None = None,
    extra_files: Mapping[str, str | Path] | None = None,
    vocabulary: str | None = None,
    overwrite: bool = False,
    on_stage: OnStage | None = None,
) -> Bundle:
    """Fuse the diffusers folder or hub id `model` into one graph for each number of `steps`, as the bundle `output`.

    `storage` is how matrices lie in weights.bin; the arithmetic is float32 in either case. `extra_files` (name in the
    bundle -> file) are copied along, and `vocabulary` names the one of them that lists the words the model knows.

    Raises OutputError if `output` cannot be written, ParityError if a graph does not draw what PyTorch draws, and
    PahiError for a model that cannot be exported.
    """
    output, extras = Path(output), {key: Path(value) for key, value in (extra_files or {}).items()}
    _check_request(steps, storage, extras, vocabulary)
    _check_output(output, overwrite)
    folder = find_model(model)
    with _building(output) as scratch:
        stages = _Stages(scratch, on_stage)
        traced = _trace(folder, scratch, tuple(steps), storage, opset, extras, stages)
        parity = _check_parity(scratch, traced, stages)
        generator, autoencoder = describe_components(model, folder)
        with stages("write bundle"):
            _copy(extras, scratch)
            manifest = Manifest(
                format_version=FORMAT_VERSION,
                name=name,
                generator=generator,
                autoencoder=autoencoder,
                prior=None,
                image=traced.image,
                tokenizer=traced.tokenizer,
                noise_recipe=RECIPE,
                graphs=traced.graphs,
                engines=(),
                parity=parity,
                files={path.relative_to(scratch).as_posix(): file_record(path) for path in _files(scratch)},
                tools=tool_versions(),
                card=card,
                vocabulary=vocabulary,
            )
            write_manifest(scratch, manifest)
    return open_bundle(output)


@dataclass(frozen=True)
class Traced:
    """What is left of the PyTorch model once its graphs are written; the model itself is freed."""

    tokenizer: TokenizerSpec
    image: ImageSpec
    graphs: dict[int, Graph]
    inputs: Inputs
    references: dict[int, Pictures]
    """Steps -> what PyTorch draws from `inputs` with the weights that were stored."""
    originals: dict[int, Pictures] | None
    """The same before the weights were rounded, where they were."""


class _Stages:
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
        return sum(path.stat().st_size for path in _files(self._folder))


def _trace(
    folder: Path,
    scratch: Path,
    steps: tuple[int, ...],
    storage: Storage,
    opset: int,
    extras: dict[str, Path],
    stages: _Stages,
) -> Traced:
    with stages("load model"):
        generator = load_generator(folder)
        check_exportable(generator)
        _check_space(scratch, generator, storage, extras)
        tokenizer = save_tokenizer(folder, generator, scratch)
        reader = Tokenizer(scratch / tokenizer.file, tokenizer.max_length, tokenizer.pad_id)
        inputs = fixed_inputs(reader, generator.latent_shape)
    with stages("draw with PyTorch"):
        references, originals = _draw(generator, inputs, steps), None
    if storage == "float16":
        with stages("round weights to fp16 and draw again"):
            round_matrices(generator)
            references, originals = _draw(generator, inputs, steps), references
    with WeightsFile(scratch / WEIGHTS) as weights:
        graphs = {count: _write_graph(generator, count, scratch, weights, storage, opset, stages) for count in steps}
    height, width = references[steps[0]].levels.shape[1:3]
    image = ImageSpec(height, width, generator.latent_shape)
    return Traced(tokenizer, image, graphs, inputs, references, originals)


def _draw(generator: Generator, inputs: Inputs, steps: tuple[int, ...]) -> dict[int, Pictures]:
    return {count: draw_reference(generator, inputs, count) for count in steps}


def _write_graph(
    generator: Generator,
    steps: int,
    folder: Path,
    weights: WeightsFile,
    storage: Storage,
    opset: int,
    stages: _Stages,
) -> Graph:
    file = GRAPHS[steps]
    with stages(f"export {file}"):
        model = export_graph(FusedGenerator(generator, steps), opset)
        store_weights(model, weights, storage)
        ir.save(model, folder / file)
    inputs, outputs = (tuple(map(_tensor_spec, values)) for values in (model.graph.inputs, model.graph.outputs))
    return Graph(file, inputs, outputs, opset, PRECISIONS[storage])


def _tensor_spec(value: ir.Value) -> TensorSpec:
    assert value.name and value.dtype and value.shape  # the exporter gives all three
    sizes = tuple(size if isinstance(size, int) else str(size.value) for size in value.shape)
    return TensorSpec(value.name, value.dtype.numpy().name, sizes)


def _check_parity(folder: Path, traced: Traced, stages: _Stages) -> tuple[Parity, ...]:
    rows: list[Parity] = []
    for steps, graph in traced.graphs.items():
        with stages(f"compare {graph.file} with PyTorch"):
            original = traced.originals[steps] if traced.originals else None
            rows += check_graph(folder / graph.file, traced.inputs, traced.references[steps], original)
    return tuple(rows)


def _check_request(steps: Sequence[int], storage: Storage, extras: Mapping[str, Path], vocabulary: str | None) -> None:
    if not steps or len(set(steps)) < len(steps) or not set(steps) <= set(GRAPHS):
        known = ", ".join(map(str, GRAPHS))
        raise PahiError(f"cannot export graphs of {tuple(steps)} steps", fix=f"name one or more of {known}, each once")
    if storage not in PRECISIONS:
        raise PahiError(f"unknown storage {storage!r}", fix=f"use {' or '.join(PRECISIONS)}")
    for name, path in extras.items():
        if not is_safe_name(name) or name in (MANIFEST, WEIGHTS, TOKENIZER, *GRAPHS.values()):
            raise PahiError(f"an extra file cannot be called {name!r} in a bundle", fix="choose another name")
        if not path.is_file():
            raise PahiError(f"the extra file {path} does not exist", fix="check the path")
    if vocabulary is not None and vocabulary not in extras:
        raise PahiError(f"the vocabulary {vocabulary!r} is not among the extra files", fix="add it to extra_files")


def _check_output(output: Path, overwrite: bool) -> None:
    if not output.absolute().parent.is_dir():
        raise OutputError(f"{output.parent} does not exist", fix=f"mkdir -p {output.parent}")
    if not output.exists():
        return
    if not overwrite:
        raise OutputError(f"{output} exists already", fix="choose another output, or overwrite the bundle (--force)")
    if not output.is_dir() or (any(output.iterdir()) and not (output / MANIFEST).is_file()):
        raise OutputError(f"{output} is not a bundle, so it will not be overwritten", fix="choose another output")


def _check_space(folder: Path, generator: Generator, storage: Storage, extras: Mapping[str, Path]) -> None:
    wide = sum(p.numel() * (2 if storage == "float16" and p.dim() >= 2 else 4) for p in generator.parameters())
    needed = wide + sum(path.stat().st_size for path in extras.values()) + ROOM_FOR_GRAPHS
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise OutputError(
            f"the bundle needs about {needed / 1e9:.1f} GB, {folder.parent} has {free / 1e9:.1f} GB left",
            fix="free some space, choose another output, or store the weights as float16",
        )


@contextmanager
def _building(output: Path) -> Iterator[Path]:
    """A new folder beside `output` that becomes it, or vanishes if anything goes wrong."""
    scratch = output.absolute().parent / f".{output.name}.{os.getpid()}.partial"
    try:
        scratch.mkdir()
        yield scratch
        _reveal(scratch, output)
    except OSError as error:
        raise OutputError(
            f"cannot write {output}: {error.strerror or error}", fix="free some space, or choose another output"
        ) from error
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _reveal(scratch: Path, output: Path) -> None:
    if not output.exists():
        scratch.rename(output)
        return
    old = scratch.with_suffix(".old")
    output.rename(old)
    scratch.rename(output)
    shutil.rmtree(old)


def _copy(extras: Mapping[str, Path], folder: Path) -> None:
    for name, path in extras.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, folder / name)


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())
