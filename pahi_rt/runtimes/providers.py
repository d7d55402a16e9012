"""ONNX Runtime's execution providers: the libraries that it can compute with, and what it takes to have them."""

from __future__ import annotations

import contextlib
import ctypes
import io
import threading
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any

from pahi_rt.errors import RuntimeUnavailable

# Both packages put their files into one folder. If the other one is left there, either may be loaded.
_REPLACE = "pip uninstall -y onnxruntime onnxruntime-gpu && pip install"
_DRIVER = "install NVIDIA's driver (nvidia-smi lists the GPU then), or use --runtime onnxruntime"
_REGISTERING = threading.Lock()


@dataclass(frozen=True, kw_only=True)
class Provider(ABC):
    """One execution provider."""

    name: str
    """ONNX Runtime's name for it."""
    install: str
    """The command that installs it."""
    module: str = ""
    """A Python module that it needs besides onnxruntime."""
    start: str = _DRIVER
    """What to do if it is installed and does not start."""
    options: Mapping[str, str] = field(default_factory=dict)
    cache: Mapping[str, str] = field(default_factory=dict)
    """More options; {} stands for the folder of this graph's compiled plans."""
    is_tensorrt: bool = False
    """Whether TensorRT compiles the graph."""

    @abstractmethod
    def select(self, onnxruntime: Any, options: Any, settings: dict[str, str]) -> Any:
        """Get ready for a session; returns its argument `providers`, or None if `options` name the provider now.

        Raises RuntimeUnavailable.
        """

    def missing_library(self, onnxruntime: Any) -> str:
        """Why the provider's library cannot be loaded, if only the loader knows; empty otherwise."""
        return ""


@dataclass(frozen=True, kw_only=True)
class BuiltIn(Provider):
    """A provider inside ONNX Runtime's own package."""

    library: str = ""
    """Its file in that package, if it needs CUDA's libraries."""

    def select(self, onnxruntime: Any, options: Any, settings: dict[str, str]) -> list[tuple[str, dict[str, str]]]:
        if self.name not in onnxruntime.get_available_providers():
            raise RuntimeUnavailable(f"this ONNX Runtime has no {self.name}", fix=self.install)
        if self.library and hasattr(onnxruntime, "preload_dlls"):
            # It prints what it does not find, which the system may have. Standard output may be a JSON document.
            with contextlib.redirect_stdout(io.StringIO()):
                onnxruntime.preload_dlls(directory="")
        return [(self.name, settings)]

    def missing_library(self, onnxruntime: Any) -> str:
        """ONNX Runtime only logs the reason, so this loads the library once more."""
        if not self.library:
            return ""
        try:
            ctypes.CDLL(str(Path(onnxruntime.__file__).parent / "capi" / self.library))
        except OSError as error:
            return str(error)
        return ""


@dataclass(frozen=True, kw_only=True)
class Plugin(Provider):
    """A provider that has a package of its own: its `module` knows where the library is."""

    def select(self, onnxruntime: Any, options: Any, settings: dict[str, str]) -> None:
        """Have `options` name the provider, on its first device."""
        if not hasattr(onnxruntime, "register_execution_provider_library"):
            raise RuntimeUnavailable(f"this ONNX Runtime cannot load {self.name}", fix=self.install)
        try:
            library = import_module(self.module)
            with _REGISTERING:
                devices = self._devices(onnxruntime) or self._register(onnxruntime, library)
        except (ImportError, FileNotFoundError) as error:
            raise RuntimeUnavailable(f"{self.name} cannot be loaded: {error}", fix=self.install) from error
        if not devices:
            raise RuntimeUnavailable(f"{self.name} finds no GPU that it can use", fix=self.start)
        options.add_provider_for_devices(devices[:1], settings)

    def _register(self, onnxruntime: Any, library: Any) -> list[Any]:
        """Load the library; returns its devices. Raises RuntimeUnavailable with the loader's reason."""
        try:
            onnxruntime.register_execution_provider_library(self.name, library.get_library_path())
        except own_errors() as error:
            # A library that found no device has been registered before.
            if "already registered" not in str(error):
                raise RuntimeUnavailable(f"{self.name} cannot be loaded: {reason(error)}", fix=self.start) from error
        return self._devices(onnxruntime)

    def _devices(self, onnxruntime: Any) -> list[Any]:
        return [device for device in onnxruntime.get_ep_devices() if device.ep_name == self.name]


_INSTALL_CPU = "pip install --force-reinstall onnxruntime"
CPU = BuiltIn(name="CPUExecutionProvider", install=_INSTALL_CPU, start=_INSTALL_CPU)
# Without flags for fp16, bf16 or int8, TensorRT's networks are strongly typed: precision follows the graph.
PROVIDERS: Mapping[str, Provider] = {
    "onnxruntime": CPU,
    "onnxruntime-cuda": BuiltIn(
        name="CUDAExecutionProvider",
        install=f"{_REPLACE} 'onnxruntime-gpu[cuda,cudnn]'",
        # Trying every algorithm of every convolution, as is the default, takes a second before the first picture.
        options={"use_tf32": "0", "cudnn_conv_algo_search": "HEURISTIC"},
        library="libonnxruntime_providers_cuda.so",
    ),
    "onnxruntime-tensorrt": BuiltIn(
        name="TensorrtExecutionProvider",
        # It is linked with libnvinfer.so.10.
        install=f"{_REPLACE} 'onnxruntime-gpu[cuda,cudnn]' 'tensorrt-cu13<11' --extra-index-url https://pypi.nvidia.com",
        cache={"trt_engine_cache_enable": "1", "trt_engine_cache_path": "{}"},
        is_tensorrt=True,
        library="libonnxruntime_providers_tensorrt.so",
        module="tensorrt",  # it loads TensorRT's libraries when it is imported; the system may have them instead
    ),
    "onnxruntime-tensorrt-rtx": Plugin(
        name="NvTensorRTRTXExecutionProvider",
        # NVIDIA supports it with the CPU's build alone.
        install=f"{_REPLACE} 'onnxruntime>=1.24' onnxruntime-ep-nv-tensorrt-rtx",
        cache={"nv_runtime_cache_path": "{}"},
        is_tensorrt=True,
        module="onnxruntime_ep_nv_tensorrt_rtx",
    ),
}
"""Name of a runtime -> its provider."""


def reason(error: Exception) -> str:
    """One line, without ONNX Runtime's "[ONNXRuntimeError] : 1 : FAIL : "."""
    return str(error).strip().split("\n")[0].split(" : ", 3)[-1]


def own_errors() -> tuple[type[Exception], ...]:
    """ONNX Runtime's exceptions. Their only common base is Exception, so they are listed from their module."""
    state = import_module("onnxruntime.capi.onnxruntime_pybind11_state")
    members = (getattr(state, name) for name in dir(state))
    return tuple(member for member in members if isinstance(member, type) and issubclass(member, Exception))
