"""Derives graphs with the same weights from a bundle: without its priors, after the text encoder, or one component."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from pahi_rt.bench.parts import after_prompt, split, without_prior
from pahi_rt.bench.peers.serving import PROMPTS
from pahi_rt.bench.reports.table2 import TEXT_ENCODER
from pahi_rt.bundle import Bundle, file_record, open_bundle, write_manifest
from pahi_rt.errors import RuntimeUnavailable
from pahi_rt.manifest import GAUSSIAN, PRIORS, STRENGTH, Graph
from pahi_rt.noise import draw_noise
from pahi_rt.pipeline import load_tokenizer, to_images
from pahi_rt.runtimes import TABLE
from pahi_rt.runtimes.onnxruntime import require_onnxruntime, session_options
from pahi_rt.runtimes.openvino import compile_graph

Feeds = dict[str, NDArray[Any]]
Part = Callable[[Feeds], Feeds]
"""Runs a graph: values by name, its inputs among them -> values of its outputs by name."""
ON_A_CPU = tuple(entry.name for entry in TABLE if entry.device == "cpu" and entry.is_exact)
"""Runtimes that can open a part of a graph."""


def copy_with_plain(bundle: Bundle, folder: Path, precision: str) -> Bundle:
    """Copy one precision of a bundle into an empty folder, and add graphs without a prior, one per number of steps.

    Plans are not copied.
    """
    own = [graph for graph in bundle.manifest.graphs if graph.precision == precision]
    tokenizer = bundle.manifest.tokenizer.file
    for name in {tokenizer, *(name for graph in own for name in (graph.file, *graph.weights))}:
        bundle.copy(name, folder / name)
    lacking = [graph for graph in bundle.graphs(GAUSSIAN, precision).values() if graph.prior != GAUSSIAN]
    graphs = (*own, *(_remove_prior(graph, folder) for graph in lacking))
    names = {tokenizer, *(name for graph in graphs for name in (graph.file, *graph.weights))}
    files = {name: file_record(folder / name) for name in sorted(names)}
    manifest = replace(
        bundle.manifest, graphs=graphs, engines=(), parity=(), vocabulary=None, scorers=None, files=files
    )
    write_manifest(folder, manifest)
    return open_bundle(folder)


def _remove_prior(graph: Graph, folder: Path) -> Graph:
    plain = graph.file.replace(f"-{graph.prior}", "")
    ir.save(without_prior(ir.load(folder / graph.file)), folder / plain)
    inputs = tuple(spec for spec in graph.inputs if spec.name != STRENGTH)
    weights = tuple(name for name in graph.weights if not name.startswith(PRIORS))
    return replace(graph, file=plain, prior=GAUSSIAN, inputs=inputs, weights=weights)


class Inputs:
    """Inputs of a graph for the n-th picture: prompt and seed follow from n, and the prior has its full strength."""

    def __init__(self, bundle: Bundle) -> None:
        self._shape = bundle.manifest.image.latent_shape
        tokenizer = load_tokenizer(bundle)
        self._ids = [tokenizer.encode([prompt]).input_ids for prompt in PROMPTS]

    def __call__(self, number: int) -> Feeds:
        ids = self._ids[number % len(self._ids)]
        return {"input_ids": ids, "noise": draw_noise([abs(number)], self._shape), STRENGTH: np.ones(1, np.float32)}


def open_cached(bundle: Bundle, graph: Graph, runtime: str) -> Callable[[int], object]:
    """A function that draws the n-th picture from prompts that the text encoder has read before.

    Files are written into the bundle's folder. Raises RuntimeUnavailable.
    """
    path, inputs = bundle.file(graph.file), Inputs(bundle)
    encode = _open_saved(split(ir.load(path))[TEXT_ENCODER], path.with_suffix(".encoder.onnx"), "onnxruntime")
    rest = _open_saved(after_prompt(ir.load(path)), path.with_suffix(".rest.onnx"), runtime)
    read = [encode(inputs(number)) for number in range(len(PROMPTS))]
    return lambda number: to_images(rest({**inputs(number), **read[number % len(read)]})["image"])


def open_components(bundle: Bundle, graph: Graph, runtime: str) -> dict[str, Part]:
    """Open each component of a graph, in the order they run in. Files are written into the bundle's folder."""
    path = bundle.file(graph.file)
    return {
        name: _open_saved(model, path.with_suffix(f".{name.replace(' ', '-')}.onnx"), runtime)
        for name, model in split(ir.load(path)).items()
    }


def _open_saved(model: ir.Model, path: Path, runtime: str) -> Part:
    ir.save(model, path)
    return open_part(path, runtime)


def open_part(path: Path, runtime: str) -> Part:
    """Open a graph with any inputs and outputs in a runtime for the CPU, with the settings that bundles run with."""
    if runtime not in ON_A_CPU:
        fix = f"measure it with {' or '.join(ON_A_CPU)}"
        raise RuntimeUnavailable(f"{runtime} cannot run a part of a graph", fix=fix)
    return _open_in_openvino(path) if runtime == "openvino" else _open_in_onnxruntime(path)


def _open_in_onnxruntime(path: Path) -> Part:
    session = require_onnxruntime().InferenceSession(str(path), session_options(), providers=["CPUExecutionProvider"])
    inputs, outputs = ([node.name for node in nodes] for nodes in (session.get_inputs(), session.get_outputs()))

    def run(feeds: Feeds) -> Feeds:
        return dict(zip(outputs, session.run(outputs, {name: feeds[name] for name in inputs}), strict=True))

    return run


def _open_in_openvino(path: Path) -> Part:
    compiled = compile_graph(path)
    request = compiled.create_infer_request()
    # A tensor that a graph hands on unchanged has several names.
    known = {port: sorted(port.get_names()) for port in (*compiled.inputs, *compiled.outputs)}

    def run(feeds: Feeds) -> Feeds:
        given = {port: next(feeds[name] for name in known[port] if name in feeds) for port in compiled.inputs}
        request.infer(given)
        return {name: np.array(request.get_tensor(port).data) for port in compiled.outputs for name in known[port]}

    return run
