"""Runs a bundle's graph in OpenVINO, on Intel's and AMD's CPUs or Intel's GPUs. Needs the `openvino` extra."""

from __future__ import annotations

import threading
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pahi_rt.bundle import Bundle
from pahi_rt.cache import lend_cache
from pahi_rt.errors import BundleError, RuntimeUnavailable
from pahi_rt.machine import check_threads
from pahi_rt.manifest import STRENGTH
from pahi_rt.prior import choose_prior
from pahi_rt.runtimes.pictures import check_pictures

_ARITHMETIC = {"fp16": "f16"}
"""Precision of a graph -> what OpenVINO may compute in. By itself it takes bfloat16 where a CPU has it, which changes
pictures by several levels: whoever wants that names it."""
BFLOAT16 = "openvino-bf16"
"""The runtime that computes every graph so, twice as fast on CPUs with the instructions for it."""


class OpenVinoRuntime:
    """A graph compiled by OpenVINO.

    `is_bfloat16` rounds what is multiplied to 8 bits of precision, and is for CPUs that have bfloat16. `threads` limits
    the cores that one picture may use; None leaves it to OpenVINO. `prior` and `precision` as for `load`; `device` is
    one of OpenVINO's names. Raises RuntimeUnavailable or BundleError.
    """

    def __init__(
        self,
        bundle: Bundle,
        *,
        steps: int = 1,
        prior: str | None = None,
        precision: str | None = None,
        threads: int | None = None,
        device: str = "CPU",
        is_bfloat16: bool = False,
    ) -> None:
        graph = bundle.graph(steps, choose_prior(bundle, prior), precision)
        arithmetic = "bf16" if is_bfloat16 else _ARITHMETIC.get(graph.precision, "f32")
        self._name = BFLOAT16 if is_bfloat16 else "openvino"
        with bundle.opened(graph) as opened:
            self._compiled = compile_graph(opened.path, device, arithmetic, threads)
        self._image = bundle.manifest.image
        self._inputs = [spec.name for spec in graph.inputs]
        self._precision, self._threads, self._device = graph.precision, threads or 0, device
        self._requests = threading.local()

    def run(
        self, input_ids: NDArray[np.int64], noise: NDArray[np.float32], prior_strength: NDArray[np.float32]
    ) -> NDArray[np.uint8]:
        """input_ids [B, T], noise [B, C, h, w], prior_strength [B] in 0..1 -> pictures [B, H, W, 3].

        Raises RuntimeUnavailable where OpenVINO fails, BundleError for a graph that draws no such pictures.
        """
        # A graph without a prior does not take prior_strength.
        feeds = {"input_ids": input_ids, "noise": noise, STRENGTH: prior_strength}
        request = self._request()
        try:
            request.infer({name: feeds[name] for name in self._inputs})
        except RuntimeError as error:
            what = f"OpenVINO cannot draw a batch of {len(noise)}: {_reason(error)}"
            raise RuntimeUnavailable(what, fix="draw fewer at once, free memory, or export the bundle again") from error
        # A copy: the request's own output is overwritten by the next picture.
        return check_pictures(request.get_output_tensor().data, len(noise), self._image).copy()

    def describe(self) -> dict[str, str | int]:
        """runtime, version, device, precision, threads (0: OpenVINO's own choice)."""
        return {
            "runtime": self._name,
            "version": str(require_openvino().get_version()).split("-")[0],
            "device": self._device,
            "precision": self._precision,
            "threads": self._threads,
        }

    def _request(self) -> Any:
        """One for each thread: a request draws one batch at a time."""
        if not hasattr(self._requests, "own"):
            self._requests.own = self._compiled.create_infer_request()
        return self._requests.own


def require_openvino() -> Any:
    """The module, imported when it is first needed. Raises RuntimeUnavailable."""
    lend_cache()  # it cannot be imported without a home
    try:
        return import_module("openvino")
    except ImportError as error:
        raise RuntimeUnavailable(
            f"OpenVINO cannot be loaded: {error}", fix="pip install 'pahi-rt[openvino]'"
        ) from error


def _properties(arithmetic: str, threads: int | None) -> dict[str, Any]:
    if threads is not None:
        check_threads(threads)
    limit = {} if threads is None else {"INFERENCE_NUM_THREADS": threads}
    return {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": arithmetic, **limit}


def compile_graph(path: Path, device: str = "CPU", arithmetic: str = "f32", threads: int | None = None) -> Any:
    """A graph for one device, computing in "f32", "f16" or "bf16". Raises RuntimeUnavailable or BundleError."""
    properties = _properties(arithmetic, threads)
    core = require_openvino().Core()
    if device not in core.available_devices:
        raise RuntimeUnavailable(
            f"OpenVINO finds no device {device!r} here",
            fix=f"use one of {', '.join(core.available_devices)}, or install the device's driver",
        )
    if arithmetic == "bf16" and not _has_bfloat16(core, device):
        # OpenVINO would emulate it, or compute in 32 bits, and say nothing.
        raise RuntimeUnavailable(f"this {device} has no bfloat16", fix="use --runtime openvino")
    try:
        return core.compile_model(core.read_model(path), device, properties)
    except RuntimeError as error:
        fix = "pip install --upgrade openvino, or use --runtime onnxruntime"
        raise BundleError(f"OpenVINO cannot load {path}: {_reason(error)}", fix=fix) from error


def _reason(error: Exception) -> str:
    """One line: the last, which says what is wrong."""
    return str(error).strip().split("\n")[-1].strip()


def _has_bfloat16(core: Any, device: str) -> bool:
    return "BF16" in core.get_property(device, "OPTIMIZATION_CAPABILITIES")
