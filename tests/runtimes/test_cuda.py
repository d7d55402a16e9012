"""What needs no GPU of the one class that talks to CUDA: names of calls, and errors."""

from __future__ import annotations

import ctypes
import sys
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from pahi_rt.errors import RuntimeUnavailable
from pahi_rt.runtimes.cuda import Cuda, name_gpu, read_capability


def test_without_cuda_python(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cuda.bindings.runtime", None)
    with pytest.raises(RuntimeUnavailable) as caught:
        Cuda()
    assert caught.value.fix == "pip install 'pahi-rt[tensorrt]'"


def test_without_a_gpu() -> None:
    runtime = pytest.importorskip("cuda.bindings.runtime")
    if not int(runtime.cudaGetDeviceCount()[0]):
        pytest.skip("there is a GPU")
    with pytest.raises(RuntimeUnavailable, match="CUDA's cudaGetDevice failed: cudaError") as caught:
        Cuda()
    assert "nvidia-smi" in caught.value.fix


def test_every_call_exists() -> None:
    """A misspelt name would be found on a GPU only."""
    runtime = pytest.importorskip("cuda.bindings.runtime")
    asked: list[str] = []

    class Recorder:
        cudaDeviceAttr, cudaMemcpyKind = runtime.cudaDeviceAttr, runtime.cudaMemcpyKind
        cudaStreamCaptureMode, cudaHostAllocDefault = runtime.cudaStreamCaptureMode, runtime.cudaHostAllocDefault

        def __getattr__(self, name: str) -> object:
            asked.append(name)
            keep = np.zeros(64, np.uint8)
            self.__dict__.setdefault("kept", []).append(keep)
            return lambda *_: (runtime.cudaError_t.cudaSuccess, keep.ctypes.data)

    sys_modules = SimpleNamespace(**{"cuda.bindings.runtime": Recorder()})
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "cuda.bindings.runtime", vars(sys_modules)["cuda.bindings.runtime"])
        cuda = Cuda()
    host = cuda.allocate_host((2, 3), "float32")
    assert (host.shape, host.dtype, host.flags.writeable) == ((2, 3), np.dtype(np.float32), True)
    address = cuda.allocate(24)
    cuda.upload(host, address)
    cuda.download(address, host)
    cuda.capture(lambda: cuda.upload(host, address))()
    cuda.wait()
    assert cuda.compute_capability
    assert [name for name in asked if not hasattr(runtime, name)] == []


class Driver:
    """NVIDIA's driver, with one GPU; `fails` names the call that does."""

    def __init__(self, fails: str) -> None:
        self.fails = fails

    def cuInit(self, flags: int) -> int:
        return int(self.fails == "cuInit")

    def cuDeviceGet(self, device: Any, number: int) -> int:
        device._obj.value = 7
        return int(self.fails == "cuDeviceGet")

    def cuDeviceGetAttribute(self, value: Any, attribute: int, device: Any) -> int:
        assert device.value == 7
        value._obj.value = {75: 8, 76: 6}[attribute]
        return int(self.fails == "cuDeviceGetAttribute")


@pytest.mark.parametrize(
    ("fails", "capability"), [("", "86"), ("cuInit", None), ("cuDeviceGet", None), ("cuDeviceGetAttribute", None)]
)
def test_the_driver_tells_the_kind_of_gpu(fails: str, capability: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ctypes, "CDLL", lambda name: Driver(fails))
    assert read_capability() == capability
    assert name_gpu("CUDA") == ("CUDA, compute capability 86" if capability else "CUDA")


def test_without_a_driver(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> None:
        raise OSError(f"{name}: cannot open shared object file")

    monkeypatch.setattr(ctypes, "CDLL", missing)
    assert read_capability() is None
    assert name_gpu("CUDA", "90") == "CUDA, compute capability 90"


@pytest.mark.gpu
def test_on_a_gpu() -> None:
    """There and back, and again from a capture, which reads what the pinned memory holds by then."""
    cuda = Cuda()
    source, target = (cuda.allocate_host((3, 5), "float32") for _ in range(2))
    address = cuda.allocate(source.nbytes)
    source[:], target[:] = np.arange(15).reshape(3, 5), 0

    def there_and_back() -> None:
        cuda.upload(source, address)
        cuda.download(address, target)

    there_and_back()
    cuda.wait()
    assert np.array_equal(target, source)
    replay = cuda.capture(there_and_back)
    for number in (7, 8):
        source[:] = number
        replay()
        cuda.wait()
        assert (target == number).all()
    assert cuda.compute_capability == read_capability()
