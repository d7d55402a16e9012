"""OpenVINO: runs a bundle's graph on Intel's and AMD's CPUs or Intel's GPUs. Needs the `openvino` extra."""

from __future__ import annotations

import threading
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from pahi_rt.cache import lend_cache
from pahi_rt.choice import Chosen
from pahi_rt.errors import BundleError, RuntimeUnavailable
from pahi_rt.machine import check_threads
from pahi_rt.runtimes.base import Feeds, GraphRuntime
from pahi_rt.runtimes.mapped import release_pages

INSTALL = "pip install 'pahi-rt[openvino]'"
_ARITHMETIC = {"fp16": "f16"}
"""Precision of a graph -> the precision that OpenVINO computes in; 32 bits for any other.

By itself OpenVINO computes in bfloat16 if the CPU has it, which changes pictures by several levels: `openvino-bf16` is
for those who want that."""
_AS_THE_GRAPH_SAYS = {"DYNAMIC_QUANTIZATION_GROUP_SIZE": 0}
"""Where a matrix is stored in 8 bits (w8), OpenVINO by itself rounds what it is multiplied with to 8 bits too, in
groups of 32, on CPUs with VNNI: w8 computes in 32 bits, and openvino-bf16 in 16. What an int8 graph computes in 8 bits,
it says itself. A test can only see what is asked for: CPUs without VNNI draw the same either way."""


class OpenVinoRuntime(GraphRuntime):
    """A graph compiled by OpenVINO.

    `device` is one of OpenVINO's names. `is_bfloat16` computes in bfloat16, which rounds factors to 8 bits of
    precision; the CPU must have it. Without a number of threads, OpenVINO chooses one.
    """

    def __init__(self, chosen: Chosen, *, device: str = "CPU", is_bfloat16: bool = False) -> None:
        arithmetic = "bf16" if is_bfloat16 else _ARITHMETIC.get(chosen.graph.precision, "f32")
        with chosen.bundle.opened(chosen.graph) as opened:
            self.compiled = compile_graph(opened.path, device, arithmetic, chosen.threads)
        self._weights = [chosen.bundle.path / name for name in chosen.graph.weights]
        self._drawn: set[int] = set()
        release_pages(self._weights)
        self._requests = threading.local()
        version = str(require_openvino().get_version()).split("-")[0]
        super().__init__(chosen, version=version, device=device)

    def draw(self, feeds: Feeds) -> object:
        """Run a request of this thread. Raises RuntimeUnavailable."""
        request = self._request()
        try:
            request.infer(feeds)
        except RuntimeError as error:
            what = f"OpenVINO cannot draw a batch of {len(feeds['noise'])}: {_reason(error)}"
            raise RuntimeUnavailable(what, fix="draw fewer at once, free memory, or export the bundle again") from error
        if len(feeds["noise"]) not in self._drawn:  # it lays some weights out when it sees a size of a batch first
            self._drawn.add(len(feeds["noise"]))
            release_pages(self._weights)
        # A copy: the next picture overwrites the request's own output.
        return np.array(request.get_output_tensor().data)

    def _request(self) -> Any:
        """One for each thread: a request draws one batch at a time."""
        if not hasattr(self._requests, "own"):
            self._requests.own = self.compiled.create_infer_request()
        return self._requests.own


def require_openvino() -> Any:
    """The module, imported when it is first needed. Raises RuntimeUnavailable."""
    lend_cache()  # it cannot be imported without a home
    try:
        return import_module("openvino")
    except ImportError as error:
        raise RuntimeUnavailable(f"OpenVINO cannot be loaded: {error}", fix=INSTALL) from error


def _properties(arithmetic: str, threads: int | None) -> dict[str, Any]:
    if threads is not None:
        check_threads(threads)
    limit = {} if threads is None else {"INFERENCE_NUM_THREADS": threads}
    return {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": arithmetic, **_AS_THE_GRAPH_SAYS, **limit}


def compile_graph(path: Path, device: str = "CPU", arithmetic: str = "f32", threads: int | None = None) -> Any:
    """Compile a graph for a device, to compute in "f32", "f16" or "bf16". Raises RuntimeUnavailable or BundleError."""
    properties = _properties(arithmetic, threads)
    core = require_openvino().Core()
    if device not in core.available_devices:
        raise RuntimeUnavailable(
            f"OpenVINO finds no device {device!r} here",
            fix=f"use one of {', '.join(core.available_devices)}, or install the device's driver",
        )
    if arithmetic == "bf16" and not has_bfloat16(core, device):
        # Otherwise OpenVINO would emulate it, or compute in 32 bits, without a word.
        raise RuntimeUnavailable(f"this {device} has no bfloat16", fix="use --runtime openvino")
    try:
        return core.compile_model(core.read_model(path), device, properties)
    except RuntimeError as error:
        fix = "pip install --upgrade openvino, or use --runtime onnxruntime"
        raise BundleError(f"OpenVINO cannot load {path}: {_reason(error)}", fix=fix) from error


def _reason(error: Exception) -> str:
    """The last line of an error, which says what is wrong."""
    return str(error).strip().split("\n")[-1].strip()


def has_bfloat16(core: Any, device: str) -> bool:
    """Whether an OpenVINO device computes in bfloat16 by itself."""
    return "BF16" in core.get_property(device, "OPTIMIZATION_CAPABILITIES")
