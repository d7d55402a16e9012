"""ONNX Runtime: the portable one, and the reference that the others are compared with.

On NVIDIA's GPUs it computes with an execution provider of its choice of libraries: CUDA, TensorRT or TensorRT for RTX.
Each is a runtime of its own name. What was asked for draws the picture, or an error says how to have it.
"""

from __future__ import annotations

import contextlib
import ctypes
import hashlib
import io
import os
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pahi_rt.bundle import Bundle, OpenGraph
from pahi_rt.cache import cache_folder, lend_cache, make_private
from pahi_rt.errors import BundleError, PahiError, RuntimeUnavailable
from pahi_rt.machine import check_threads
from pahi_rt.manifest import STRENGTH, Graph
from pahi_rt.prior import choose_prior
from pahi_rt.runtimes.pictures import check_pictures

_NOTHING_BUT_FATAL = 4
# What ONNX Runtime raises when the file is at fault, whatever was to run it.
_DAMAGE = ("InvalidGraph", "InvalidProtobuf", "NoModel", "NoSuchFile")
_REGISTERING = threading.Lock()


@dataclass(frozen=True)
class Provider:
    """One of ONNX Runtime's execution providers, and what it takes to have it."""

    name: str
    """As ONNX Runtime lists it."""
    install: str
    """The command that installs it."""
    start: str = ""
    """What to do where it is installed and does not start."""
    options: Mapping[str, str] = field(default_factory=dict)
    cache: Mapping[str, str] = field(default_factory=dict)
    """Further options, with {} for the folder of this graph's compiled engines."""
    session: Mapping[str, str] = field(default_factory=dict)
    environment: Mapping[str, str] = field(default_factory=dict)
    library: str = ""
    """Of a provider that needs CUDA's libraries: its own file in ONNX Runtime's package."""
    companion: str = ""
    """The module that loads further libraries when it is imported; they may also be the system's."""
    plugin: str = ""
    """The module of a provider that has a package of its own."""
    reads_path: bool = False
    """It looks for weights beside the graph's path, and so cannot be given a graph's bytes alone."""


# Both packages put their files into one folder: with the other one left there, either may be loaded.
_REPLACE = "pip uninstall -y onnxruntime onnxruntime-gpu && pip install"
_DRIVER = "install NVIDIA's driver (nvidia-smi lists the GPU then), or use --runtime onnxruntime"
# Neither TensorRT provider has an option for TF32; TensorRT reads this variable, as cuBLAS and cuDNN do.
_NO_TF32 = {"NVIDIA_TF32_OVERRIDE": "0"}
# Without it a TensorRT session may hand all of its nodes to the CPU, and still list TensorRT first.
_WHOLE = {"session.disable_cpu_ep_fallback": "1"}
# Else the threads of one session keep the cores busy after its picture, and that of the next takes up to twice as long.
_SLEEP_AFTERWARDS = {"session.force_spinning_stop": "1"}
# Else it would take some bytes for its own format, whatever else they are.
_ONNX_ONLY = {"session.load_model_format": "ONNX"}
_FOLDER = "session.model_external_initializers_file_folder_path"

# Without flags for fp16, bf16 or int8, TensorRT's networks are strongly typed: precision follows the graph.
PROVIDERS = {
    "onnxruntime": Provider("CPUExecutionProvider", "pip install --force-reinstall onnxruntime"),
    "onnxruntime-cuda": Provider(
        "CUDAExecutionProvider",
        f"{_REPLACE} 'onnxruntime-gpu[cuda,cudnn]'",
        start=_DRIVER,
        options={"use_tf32": "0"},
        library="libonnxruntime_providers_cuda.so",
    ),
    "onnxruntime-tensorrt": Provider(
        "TensorrtExecutionProvider",
        # Linked with libnvinfer.so.10.
        f"{_REPLACE} 'onnxruntime-gpu[cuda,cudnn]' 'tensorrt-cu13<11' --extra-index-url https://pypi.nvidia.com",
        start=_DRIVER,
        cache={"trt_engine_cache_enable": "1", "trt_engine_cache_path": "{}"},
        session=_WHOLE,
        environment=_NO_TF32,
        library="libonnxruntime_providers_tensorrt.so",
        companion="tensorrt",
        reads_path=True,
    ),
    "onnxruntime-tensorrt-rtx": Provider(
        "NvTensorRTRTXExecutionProvider",
        # NVIDIA supports it with the CPU's build alone.
        f"{_REPLACE} 'onnxruntime>=1.24' onnxruntime-ep-nv-tensorrt-rtx",
        start=_DRIVER,
        cache={"nv_runtime_cache_path": "{}"},
        session=_WHOLE,
        environment=_NO_TF32,
        plugin="onnxruntime_ep_nv_tensorrt_rtx",
        reads_path=True,
    ),
}
"""Name of a runtime -> its provider."""


class OnnxRuntime:
    """A graph in an ONNX Runtime session.

    `flavour` is one of PROVIDERS. `threads` limits the CPU's cores that one picture may use; None leaves it to ONNX
    Runtime (the physical cores). `prior` and `precision` as for `load`. Raises RuntimeUnavailable or BundleError.
    """

    def __init__(
        self,
        bundle: Bundle,
        *,
        flavour: str = "onnxruntime",
        steps: int = 1,
        prior: str | None = None,
        precision: str | None = None,
        threads: int | None = None,
    ) -> None:
        graph = bundle.graph(steps, choose_prior(bundle, prior), precision)
        options = session_options(threads, flavour)
        with bundle.opened(graph) as opened:
            self._session = _open_session(opened, options, flavour, _engine_folder(bundle, graph, flavour))
        self._image = bundle.manifest.image
        self._inputs = [spec.name for spec in graph.inputs]
        self._output = graph.outputs[0].name
        self._flavour = flavour
        self._precision = graph.precision
        self._threads = threads or 0

    def run(
        self, input_ids: NDArray[np.int64], noise: NDArray[np.float32], prior_strength: NDArray[np.float32]
    ) -> NDArray[np.uint8]:
        """input_ids [B, T], noise [B, C, h, w], prior_strength [B] in 0..1 -> pictures [B, H, W, 3].

        Raises RuntimeUnavailable where ONNX Runtime fails, BundleError for a graph that draws no such pictures.
        """
        # A graph without a prior does not take prior_strength.
        feeds = {"input_ids": input_ids, "noise": noise, STRENGTH: prior_strength}
        try:
            (pictures,) = self._session.run([self._output], {name: feeds[name] for name in self._inputs})
        except _own_errors() as error:
            what = f"ONNX Runtime cannot draw a batch of {len(noise)}: {_reason(error)}"
            raise RuntimeUnavailable(what, fix="draw fewer at once, free memory, or export the bundle again") from error
        return check_pictures(pictures, len(noise), self._image)

    def describe(self) -> dict[str, str | int]:
        """runtime, version, device, precision, threads (0: one for each physical core)."""
        return {
            "runtime": self._flavour,
            "version": str(require_onnxruntime().__version__),
            "device": self._session.get_providers()[0].removesuffix("ExecutionProvider"),
            "precision": self._precision,
            "threads": self._threads,
        }


def require_onnxruntime() -> Any:
    """The module, imported when it is first needed. Raises RuntimeUnavailable."""
    lend_cache()  # it keeps an id of the machine in a home, and logs where it cannot
    try:
        return import_module("onnxruntime")
    except ImportError as error:
        fix = PROVIDERS["onnxruntime"].install
        raise RuntimeUnavailable(f"ONNX Runtime cannot be loaded: {error}", fix=fix) from error


def session_options(threads: int | None = None, flavour: str = "onnxruntime") -> Any:
    """What every session here is opened with. Raises RuntimeUnavailable for no threads, or too many."""
    options = require_onnxruntime().SessionOptions()
    # What it would log on standard error is what it raises.
    options.log_severity_level = _NOTHING_BUT_FATAL
    for key, value in {**_SLEEP_AFTERWARDS, **_ONNX_ONLY, **PROVIDERS[flavour].session}.items():
        options.add_session_config_entry(key, value)
    if threads is not None:
        check_threads(threads)
        options.intra_op_num_threads = threads
    return options


def _engine_folder(bundle: Bundle, graph: Graph, flavour: str) -> Path:
    """In the user's cache; another graph, other weights and other versions have another one.

    ONNX Runtime's own names for engines know neither weights nor TensorRT's exact version.
    """
    files = bundle.manifest.files
    contents = [files[name].sha256 for name in (graph.file, *graph.weights)]
    provider = PROVIDERS[flavour]
    modules = [_import(name) for name in ("onnxruntime", provider.companion, provider.plugin)]
    versions = [str(getattr(module, "__version__", None)) for module in modules]
    key = hashlib.sha256("\n".join([*contents, *versions]).encode()).hexdigest()
    return cache_folder(flavour, key)


def _import(name: str) -> Any:
    """The module; None without a name, or where it cannot be imported."""
    with contextlib.suppress(ImportError):
        return import_module(name) if name else None
    return None


def _open_session(graph: OpenGraph, options: Any, flavour: str, folder: Path) -> Any:
    onnxruntime, provider = require_onnxruntime(), PROVIDERS[flavour]
    os.environ.update(provider.environment)
    use = _use_plugin if provider.plugin else _use_built_in
    chosen = use(onnxruntime, provider, options, _provider_options(provider, folder))
    model = str(graph.path) if provider.reads_path else graph.content
    if not provider.reads_path:
        options.add_session_config_entry(_FOLDER, str(graph.path.parent.absolute()))
    raised: tuple[type[Exception], ...] = (*_own_errors(), RuntimeError, ValueError)
    try:
        # Else it prints the reason, and goes on with the CPU.
        session = onnxruntime.InferenceSession(model, options, providers=chosen, enable_fallback=0)
    except raised as error:
        raise _explain(error, graph.path, flavour) from error
    # Where a built-in provider's libraries are missing, it only warns.
    if session.get_providers()[0] != provider.name:
        raise _not_started(provider)
    return session


def _provider_options(provider: Provider, folder: Path) -> dict[str, str]:
    """All options; without those of the cache where nothing can be written: engines are compiled again then."""
    cache = {key: value.format(folder) for key, value in provider.cache.items()}
    if cache:
        try:
            make_private(folder)
        except OSError:
            cache = {}
    return {**provider.options, **cache}


def _use_built_in(onnxruntime: Any, provider: Provider, options: Any, settings: dict[str, str]) -> Any:
    """What InferenceSession takes as `providers`. Raises RuntimeUnavailable."""
    if provider.name not in onnxruntime.get_available_providers():
        raise RuntimeUnavailable(f"this ONNX Runtime has no {provider.name}", fix=provider.install)
    if provider.library and hasattr(onnxruntime, "preload_dlls"):
        # It prints what it does not find, which may be the system's, into what may be a JSON document.
        with contextlib.redirect_stdout(io.StringIO()):
            onnxruntime.preload_dlls(directory="")
    return [(provider.name, settings)]


def _use_plugin(onnxruntime: Any, provider: Provider, options: Any, settings: dict[str, str]) -> None:
    """Have `options` name the provider, on its first device. Raises RuntimeUnavailable."""
    if not hasattr(onnxruntime, "register_execution_provider_library"):
        raise RuntimeUnavailable(f"this ONNX Runtime cannot load {provider.name}", fix=provider.install)
    try:
        plugin = import_module(provider.plugin)
        with _REGISTERING:
            devices = _find_devices(onnxruntime, provider) or _register(onnxruntime, provider, plugin)
    except (ImportError, FileNotFoundError) as error:
        raise RuntimeUnavailable(f"{provider.name} cannot be loaded: {error}", fix=provider.install) from error
    if not devices:
        raise RuntimeUnavailable(f"{provider.name} finds no GPU that it can use", fix=provider.start)
    options.add_provider_for_devices(devices[:1], settings)


def _register(onnxruntime: Any, provider: Provider, plugin: Any) -> list[Any]:
    """The devices of a plugin's library, loaded now. Raises RuntimeUnavailable with the loader's reason."""
    try:
        onnxruntime.register_execution_provider_library(provider.name, plugin.get_library_path())
    except _own_errors() as error:
        # The second time that a library which found no device is registered.
        if "already registered" not in str(error):
            what = f"{provider.name} cannot be loaded: {_reason(error)}"
            raise RuntimeUnavailable(what, fix=provider.start) from error
    return _find_devices(onnxruntime, provider)


def _find_devices(onnxruntime: Any, provider: Provider) -> list[Any]:
    return [device for device in onnxruntime.get_ep_devices() if device.ep_name == provider.name]


def _explain(error: Exception, path: Path, flavour: str) -> PahiError:
    """The file is at fault where the error says so, or on the CPU, which takes every graph that we export."""
    provider = PROVIDERS[flavour]
    if isinstance(error, _own_errors()) and (flavour == "onnxruntime" or type(error).__name__ in _DAMAGE):
        fix = "pip install --upgrade onnxruntime, or export the bundle again"
        return BundleError(f"ONNX Runtime cannot load {path}: {_reason(error)}", fix=fix)
    if missing := _missing_library(provider):
        return _not_started(provider, missing)
    return RuntimeUnavailable(f"{provider.name} cannot run {path}: {_reason(error)}", fix=provider.start)


def _not_started(provider: Provider, missing: str | None = None) -> RuntimeUnavailable:
    missing = missing or _missing_library(provider)
    what = f"{provider.name} cannot start on this machine" + (f": {missing}" if missing else "")
    return RuntimeUnavailable(what, fix=provider.install if missing else provider.start or provider.install)


def _missing_library(provider: Provider) -> str:
    """What keeps a built-in provider's library from being loaded, which ONNX Runtime only logs; empty if nothing."""
    if not provider.library:
        return ""
    try:
        ctypes.CDLL(str(Path(require_onnxruntime().__file__).parent / "capi" / provider.library))
    except OSError as error:
        return str(error)
    return ""


def _reason(error: Exception) -> str:
    """One line, without ONNX Runtime's "[ONNXRuntimeError] : 1 : FAIL : "."""
    return str(error).strip().split("\n")[0].split(" : ", 3)[-1]


def _own_errors() -> tuple[type[Exception], ...]:
    """Its exceptions have no common base but Exception, so they are taken from the module that defines them."""
    state = import_module("onnxruntime.capi.onnxruntime_pybind11_state")
    members = (getattr(state, name) for name in dir(state))
    return tuple(member for member in members if isinstance(member, type) and issubclass(member, Exception))
