"""CUDA graphs of ONNX Runtime, on a fake: sessions compute on the CPU, and say what they were asked for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from pahi_rt import runtimes
from pahi_rt.bundle import open_bundle
from pahi_rt.noise import draw_noise
from pahi_rt.runtimes.onnxruntime import require_onnxruntime
from pahi_rt.runtimes.onnxruntime_cuda import MOST_SIZES
from pahi_rt.runtimes.providers import BuiltIn
from tests.runtimes.crowd import Crowd, run_at_once

CUDA = "CUDAExecutionProvider"
Inputs = tuple[NDArray[np.int64], NDArray[np.float32], NDArray[np.float32]]


class FakeCuda:
    """An ONNX Runtime with CUDA. "GPU" memory is the CPU's; `replayed` are the graph ids of runs with bound memory."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        onnxruntime = require_onnxruntime()
        self.session_class, allocate = onnxruntime.InferenceSession, onnxruntime.OrtValue.ortvalue_from_shape_and_type
        self.asked: list[dict[str, str]] = []
        self.replayed: list[str] = []
        self.plain: list[str | None] = []
        self.refuses_to_load = self.fails_to_capture = False
        self.allocated: list[str] = []

        def on_cpu(shape: list[int], dtype: type, device: str, number: int) -> Any:
            self.allocated.append(device)
            return allocate(shape, dtype, "cpu", 0)

        monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: [CUDA, "CPUExecutionProvider"])
        monkeypatch.setattr(onnxruntime, "preload_dlls", lambda directory: None)
        monkeypatch.setattr(onnxruntime, "InferenceSession", self.open)
        monkeypatch.setattr(BuiltIn, "missing_library", lambda self, module: "")
        monkeypatch.setattr(onnxruntime.OrtValue, "ortvalue_from_shape_and_type", on_cpu)

    def open(self, model: bytes, options: Any, providers: Any, enable_fallback: int) -> Any:
        if providers == ["CPUExecutionProvider"] or providers[0][0] != CUDA:
            return self.session_class(model, options, providers=providers)
        self.asked.append(providers[0][1])
        captures = "enable_cuda_graph" in providers[0][1]
        if captures and self.refuses_to_load:
            raise failure("all compute graph nodes have not been partitioned to the CUDAExecutionProvider")
        session = self.session_class(model, options, providers=["CPUExecutionProvider"])
        run, bound = session.run, session.run_with_iobinding

        def run_plain(names: Any, feeds: Any, run_options: Any = None) -> Any:
            self.plain.append(run_options and run_options.get_run_config_entry("gpu_graph_id"))
            return run(names, feeds)

        def run_bound(binding: Any, run_options: Any) -> None:
            if self.fails_to_capture:
                raise failure("CUDA error cudaErrorStreamCaptureUnsupported")
            self.replayed.append(run_options.get_run_config_entry("gpu_graph_id"))
            bound(binding)

        session.get_providers = lambda: [CUDA, "CPUExecutionProvider"]
        session.run, session.run_with_iobinding = run_plain, run_bound
        return session


def failure(words: str) -> Exception:
    from onnxruntime.capi.onnxruntime_pybind11_state import Fail

    return Fail(f"[ONNXRuntimeError] : 1 : FAIL : {words}")


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> FakeCuda:
    return FakeCuda(monkeypatch)


def inputs(count: int, first: int = 0) -> Inputs:
    ids = np.arange(first, first + count * 24, dtype=np.int64).reshape(count, 24)
    return ids, draw_noise(range(first, first + count), (4, 4, 4)), np.linspace(0, 1, count, dtype=np.float32)


def both(contract: Path) -> tuple[Any, Any]:
    bundle = open_bundle(contract)
    return runtimes.load(bundle, 2, "onnxruntime-cuda"), runtimes.load(bundle, 2, "onnxruntime")


def test_each_batch_size_is_a_graph_of_its_own(contract: Path, fake: FakeCuda) -> None:
    gpu, cpu = both(contract)
    for count, first in ((1, 0), (3, 5), (1, 9), (3, 2)):
        np.testing.assert_array_equal(gpu.run(*inputs(count, first)), cpu.run(*inputs(count, first)))
    assert fake.replayed == ["1", "3", "1", "3"]
    assert set(fake.allocated) == {"cuda"}
    assert len(fake.allocated) == 2 * 4  # three inputs and the pictures, once for each size
    assert gpu.describe()["cuda_graph"] == "batches of 1, 3"


def test_pictures_are_the_callers_own(contract: Path, fake: FakeCuda) -> None:
    gpu, _ = both(contract)
    first = gpu.run(*inputs(1))
    kept = first.copy()
    gpu.run(*inputs(1, 7))
    assert np.array_equal(first, kept)


def test_threads_take_turns(contract: Path, fake: FakeCuda) -> None:
    """A second one would write into the memory that the first one draws from."""
    gpu, cpu = both(contract)
    crowd = gpu.session.run_with_iobinding = Crowd(gpu.session.run_with_iobinding)
    calls = [inputs(2), inputs(2, 5)]
    for rows, drawn in zip(calls, run_at_once(gpu.run, calls), strict=True):
        np.testing.assert_array_equal(drawn, cpu.run(*rows))
    assert not crowd.met


def test_no_more_sizes_than_memory_is_kept_for(contract: Path, fake: FakeCuda) -> None:
    gpu, cpu = both(contract)
    for count in range(1, MOST_SIZES + 3):
        np.testing.assert_array_equal(gpu.run(*inputs(count)), cpu.run(*inputs(count)))
    assert len(fake.replayed) == MOST_SIZES
    assert fake.plain == ["-1", "-1"]


def test_a_graph_that_cannot_be_captured_is_drawn_without(contract: Path, fake: FakeCuda) -> None:
    fake.refuses_to_load = True
    gpu, cpu = both(contract)
    np.testing.assert_array_equal(gpu.run(*inputs(2)), cpu.run(*inputs(2)))
    assert ["enable_cuda_graph" in options for options in fake.asked] == [True, False]
    assert all(options["cudnn_conv_algo_search"] == "HEURISTIC" for options in fake.asked)
    assert "not been partitioned" in str(gpu.describe()["cuda_graph"])
    assert not fake.replayed


def test_a_capture_that_fails_while_it_draws(contract: Path, fake: FakeCuda) -> None:
    gpu, cpu = both(contract)
    fake.fails_to_capture = True
    for count in (2, 1):
        np.testing.assert_array_equal(gpu.run(*inputs(count)), cpu.run(*inputs(count)))
    assert gpu.describe()["cuda_graph"] == "no: CUDA error cudaErrorStreamCaptureUnsupported"
    assert len(fake.asked) == 2 and fake.plain == [None, None]
