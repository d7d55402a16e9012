"""ONNX Runtime with CUDA's kernels: each batch size is captured as a CUDA graph, and takes one launch from then on."""

from __future__ import annotations

import threading
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pahi_rt.bundle import OpenGraph
from pahi_rt.choice import Chosen
from pahi_rt.errors import RuntimeUnavailable
from pahi_rt.manifest import Graph, TensorSpec
from pahi_rt.runtimes.base import Description, Feeds
from pahi_rt.runtimes.onnxruntime import OnnxRuntime, open_session, require_onnxruntime, session_options
from pahi_rt.runtimes.providers import PROVIDERS, own_errors, reason

MOST_SIZES = 8
"""Batch sizes that are captured: each keeps the GPU's memory that it works in."""
_PLAIN = PROVIDERS["onnxruntime-cuda"]
_CAPTURING = replace(_PLAIN, options={**_PLAIN.options, "enable_cuda_graph": "1"})
_GRAPH_ID = "gpu_graph_id"
_NO_GRAPH = "-1"


class OnnxRuntimeCuda(OnnxRuntime):
    """A graph in ONNX Runtime's CUDA provider.

    Where ONNX Runtime cannot capture the graph, it launches every kernel by itself, and `describe` says why.
    """

    def __init__(self, chosen: Chosen) -> None:
        self._chosen = chosen
        self._why_not = ""
        self._sizes: dict[int, Bound] = {}
        self._one_at_a_time = threading.Lock()
        super().__init__(chosen)

    def open(self, graph: OpenGraph, chosen: Chosen) -> Any:
        """A session that captures; a plain one if that cannot be. Raises RuntimeUnavailable or BundleError."""
        try:
            return open_session(graph, session_options(chosen.threads), _CAPTURING)
        except RuntimeUnavailable as error:
            session = open_session(graph, session_options(chosen.threads), _PLAIN)
            self._why_not = error.what
            return session

    def draw(self, feeds: Feeds) -> object:
        """Replay the CUDA graph for so many pictures, which the first call captures. Raises RuntimeUnavailable."""
        with self._one_at_a_time:
            if not self._why_not:
                try:
                    return self._draw_captured(feeds)
                except own_errors() as error:
                    self._do_without(reason(error))
        return super().draw(feeds)

    def describe(self) -> Description:
        """Also `cuda_graph`: the batch sizes that are captured, or why there are none."""
        sizes = ", ".join(map(str, sorted(self._sizes))) or "none yet"
        return {**super().describe(), "cuda_graph": f"no: {self._why_not}" if self._why_not else f"batches of {sizes}"}

    def _draw_captured(self, feeds: Feeds) -> object:
        count = len(feeds["noise"])
        if count in self._sizes:
            return self._sizes[count].draw(feeds)
        if len(self._sizes) == MOST_SIZES:
            return self.session.run([self._graph.outputs[0].name], feeds, _run_options(_NO_GRAPH))[0]
        bound = Bound(self.session, self._graph, count)
        drawn = bound.draw(feeds)
        self._sizes[count] = bound
        return drawn

    def _do_without(self, why_not: str) -> None:
        """Load the graph again: a session that cannot capture fails from then on. Raises what loading raises."""
        self._sizes.clear()
        with self._chosen.bundle.opened(self._graph) as opened:
            self.session = open_session(opened, session_options(self._chosen.threads), _PLAIN)
        self._why_not = why_not


class Bound:
    """Memory on the GPU for `count` pictures, at addresses that stay: a captured graph reads and writes them."""

    def __init__(self, session: Any, graph: Graph, count: int) -> None:
        self._session = session
        self._inputs = {spec.name: _allocate(spec, count) for spec in graph.inputs}
        self._output = _allocate(graph.outputs[0], count)
        self._binding = session.io_binding()
        for name, value in self._inputs.items():
            self._binding.bind_ortvalue_input(name, value)
        self._binding.bind_ortvalue_output(graph.outputs[0].name, self._output)
        self._options = _run_options(str(count))

    def draw(self, feeds: Feeds) -> NDArray[Any]:
        """Copy the inputs there, draw, and copy the pictures back."""
        for name, value in self._inputs.items():
            value.update_inplace(np.ascontiguousarray(feeds[name]))
        self._session.run_with_iobinding(self._binding, self._options)
        return np.array(self._output.numpy())


def _allocate(spec: TensorSpec, count: int) -> Any:
    shape = [count, *(int(size) for size in spec.shape[1:])]
    return require_onnxruntime().OrtValue.ortvalue_from_shape_and_type(shape, np.dtype(spec.dtype).type, "cuda", 0)


def _run_options(graph_id: str) -> Any:
    options = require_onnxruntime().RunOptions()
    options.add_run_config_entry(_GRAPH_ID, graph_id)
    return options
