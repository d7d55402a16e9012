"""ONNX Runtime: the portable one, and the reference that the others are compared with."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pahi_rt.bundle import Bundle, Graph
from pahi_rt.errors import BundleError, RuntimeUnavailable
from pahi_rt.manifest import STRENGTH
from pahi_rt.prior import choose_prior

_ERRORS_ONLY = 3
# Both packages put their files into one folder: with the other one left there, either may be loaded.
_BUILDS = {
    "CUDAExecutionProvider": "pip uninstall -y onnxruntime onnxruntime-gpu && pip install 'onnxruntime-gpu[cuda,cudnn]'"
}
_TYPES = {"int64": "tensor(int64)", "float32": "tensor(float)", "uint8": "tensor(uint8)"}


class OnnxRuntime:
    """A graph in an ONNX Runtime session.

    `threads` limits the cores that one picture may use; None leaves it to ONNX Runtime (the physical cores).
    `prior` and `precision` as for `load`. Raises RuntimeUnavailable or BundleError.
    """

    def __init__(
        self,
        bundle: Bundle,
        *,
        steps: int = 1,
        prior: str | None = None,
        precision: str | None = None,
        threads: int | None = None,
        provider: str = "CPUExecutionProvider",
    ) -> None:
        graph = bundle.graph(steps, choose_prior(bundle, prior), precision)
        path = bundle.graph_file(graph)
        self._session = _open_session(path, _session_options(threads), provider)
        _check_signature(self._session, graph, path)
        self._inputs = [spec.name for spec in graph.inputs]
        self._output = graph.outputs[0].name
        self._precision = graph.precision
        self._threads = threads or 0

    def run(
        self, input_ids: NDArray[np.int64], noise: NDArray[np.float32], prior_strength: NDArray[np.float32]
    ) -> NDArray[np.uint8]:
        """input_ids [B, T], noise [B, C, h, w], prior_strength [B] in 0..1 -> pictures [B, H, W, 3]."""
        # A graph without a prior does not take prior_strength.
        feeds = {"input_ids": input_ids, "noise": noise, STRENGTH: prior_strength}
        (pictures,) = self._session.run([self._output], {name: feeds[name] for name in self._inputs})
        return np.asarray(pictures, np.uint8)

    def describe(self) -> dict[str, str | int]:
        """runtime, version, device, precision, threads (0: one for each physical core)."""
        return {
            "runtime": "onnxruntime",
            "version": str(require_onnxruntime().__version__),
            "device": self._session.get_providers()[0].removesuffix("ExecutionProvider"),
            "precision": self._precision,
            "threads": self._threads,
        }


def require_onnxruntime() -> Any:
    """The module, imported when it is first needed. Raises RuntimeUnavailable."""
    try:
        return import_module("onnxruntime")
    except ImportError as error:
        fix = "pip install --force-reinstall onnxruntime"
        raise RuntimeUnavailable(f"ONNX Runtime cannot be loaded: {error}", fix=fix) from error


def _session_options(threads: int | None) -> Any:
    options = require_onnxruntime().SessionOptions()
    options.log_severity_level = _ERRORS_ONLY
    if threads is not None:
        if threads < 1:
            raise RuntimeUnavailable(f"cannot run on {threads} threads", fix="use --threads 1 or more")
        options.intra_op_num_threads = threads
    return options


def _open_session(path: Path, options: Any, provider: str) -> Any:
    onnxruntime = require_onnxruntime()
    if provider not in onnxruntime.get_available_providers():
        fix = _BUILDS.get(provider, "install the build of ONNX Runtime that has it")
        raise RuntimeUnavailable(f"this ONNX Runtime has no {provider}", fix=fix)
    try:
        session = onnxruntime.InferenceSession(str(path), options, providers=[provider])
    except _load_errors() as error:
        reason = str(error).strip().split("\n")[0]
        fix = "pip install --upgrade onnxruntime, or export the bundle again"
        raise BundleError(f"ONNX Runtime cannot load {path}: {reason}", fix=fix) from error
    # ONNX Runtime only warns when a provider fails to start, and goes on with the CPU.
    if session.get_providers()[0] != provider:
        raise RuntimeUnavailable(f"{provider} cannot start on this machine", fix="check its driver and libraries")
    return session


def _load_errors() -> tuple[type[Exception], ...]:
    """Its exceptions have no common base but Exception, so they are taken from the module that defines them."""
    state = import_module("onnxruntime.capi.onnxruntime_pybind11_state")
    members = (getattr(state, name) for name in dir(state))
    return tuple(member for member in members if isinstance(member, type) and issubclass(member, Exception))


def _check_signature(session: Any, graph: Graph, path: Path) -> None:
    for kind, specs, found in (
        ("inputs", graph.inputs, session.get_inputs()),
        ("outputs", graph.outputs, session.get_outputs()),
    ):
        declared = {spec.name: _TYPES.get(spec.dtype, spec.dtype) for spec in specs}
        actual = {node.name: node.type for node in found}
        if declared != actual or len(graph.outputs) != 1:
            what = f"{path} has the {kind} {actual}, its manifest says {declared}"
            raise BundleError(what, fix="export the bundle again")
