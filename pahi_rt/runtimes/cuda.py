"""One NVIDIA GPU: its memory, one stream, and work captured on it. TensorRT needs no more of CUDA, and no PyTorch."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable
from importlib import import_module
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pahi_rt.errors import RuntimeUnavailable

_DRIVER = "nvcuda.dll" if os.name == "nt" else "libcuda.so.1"
_CAPABILITY = (75, 76)
"""The driver's numbers for the two parts of a compute capability."""


def name_gpu(library: str, capability: str | None = None) -> str:
    """The GPU as `describe` names it, by the library that computes there and its kind, if the driver tells it.

    `capability` is asked for if None.
    """
    capability = capability or read_capability()
    return f"{library}, compute capability {capability}" if capability else library


def read_capability() -> str | None:
    """The first GPU's kind as in `Cuda.compute_capability`, without cuda-python; None without a driver or a GPU."""
    try:
        driver = ctypes.CDLL(_DRIVER)
    except OSError:
        return None
    device, *parts = ctypes.c_int(), ctypes.c_int(), ctypes.c_int()
    if driver.cuInit(0) or driver.cuDeviceGet(ctypes.byref(device), 0):
        return None
    asked = zip(parts, _CAPABILITY, strict=True)
    failed = [driver.cuDeviceGetAttribute(ctypes.byref(part), number, device) for part, number in asked]
    return None if any(failed) else "".join(str(part.value) for part in parts)


class Cuda:
    """The current device, through cuda-python. Raises RuntimeUnavailable if there is no cuda-python, or no GPU.

    All work is enqueued on one stream, in order. Memory is freed when the process ends.
    """

    def __init__(self) -> None:
        try:
            self._api = import_module("cuda.bindings.runtime")
        except ImportError as error:
            fix = "pip install 'pahi-rt[tensorrt]'"
            raise RuntimeUnavailable(f"cuda-python cannot be loaded: {error}", fix=fix) from error
        self._device = self._call("cudaGetDevice")
        self.stream: int = int(self._call("cudaStreamCreate"))

    @property
    def compute_capability(self) -> str:
        """The GPU's kind, as NVIDIA numbers them, without the dot: "86" is the RTX 30 series."""
        attributes = self._api.cudaDeviceAttr
        names = ("cudaDevAttrComputeCapabilityMajor", "cudaDevAttrComputeCapabilityMinor")
        return "".join(
            str(self._call("cudaDeviceGetAttribute", getattr(attributes, name), self._device)) for name in names
        )

    def allocate(self, size: int) -> int:
        """Allocate `size` bytes on the device; returns their address."""
        return int(self._call("cudaMalloc", size))

    def allocate_host(self, shape: tuple[int, ...], dtype: str) -> NDArray[Any]:
        """Allocate an array in pinned memory, which the device reads and writes directly."""
        size = int(np.prod(shape)) * np.dtype(dtype).itemsize
        address = int(self._call("cudaHostAlloc", size, self._api.cudaHostAllocDefault))
        content = memoryview((ctypes.c_uint8 * size).from_address(address))
        return np.ndarray(shape, dtype, content)

    def upload(self, source: NDArray[Any], address: int) -> None:
        """Enqueue a copy of a pinned, contiguous array to the device."""
        self._copy(address, source.ctypes.data, source.nbytes, "cudaMemcpyHostToDevice")

    def download(self, address: int, target: NDArray[Any]) -> None:
        """Enqueue a copy from the device into a pinned, contiguous array."""
        self._copy(target.ctypes.data, address, target.nbytes, "cudaMemcpyDeviceToHost")

    def capture(self, work: Callable[[], None]) -> Callable[[], None]:
        """Capture work; returns a function that enqueues it again as one launch. `work` must have run once before."""
        self._call(
            "cudaStreamBeginCapture", self.stream, self._api.cudaStreamCaptureMode.cudaStreamCaptureModeThreadLocal
        )
        try:
            work()
        finally:
            graph = self._call("cudaStreamEndCapture", self.stream)
        ready = self._call("cudaGraphInstantiate", graph, 0)
        return lambda: self._call("cudaGraphLaunch", ready, self.stream)

    def wait(self) -> None:
        """Wait until all enqueued work is done."""
        self._call("cudaStreamSynchronize", self.stream)

    def _copy(self, target: int, source: int, size: int, direction: str) -> None:
        kind = getattr(self._api.cudaMemcpyKind, direction)
        self._call("cudaMemcpyAsync", target, source, size, kind, self.stream)

    def _call(self, name: str, *arguments: Any) -> Any:
        error, *values = getattr(self._api, name)(*arguments)
        if int(error):
            fix = "check NVIDIA's driver (nvidia-smi), and that the GPU has memory left"
            raise RuntimeUnavailable(f"CUDA's {name} failed: {error.name}", fix=fix)
        return values[0] if len(values) == 1 else None
