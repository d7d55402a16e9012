"""Measures what this machine attains at best: the limit that a latency of the same run is compared with.

Rates are those of one large matrix product and of copies in memory: in ONNX Runtime and numpy for the CPU, in PyTorch
for a GPU. A copied byte counts twice, once read and once written.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper

from pahi_rt.bench.reports.cuda import DeviceLimits
from pahi_rt.bench.reports.report import Limits
from pahi_rt.runtimes.onnxruntime import require_onnxruntime, session_options

if TYPE_CHECKING:
    import torch

SIZE = 2048
"""Rows and columns of the CPU's matrices: large enough that computing takes longer than reading them."""
COPIED_BYTES = 2**28
REPEATS, GPU_REPEATS = 7, 20


def measure_limits(threads: int) -> Limits:
    """Rates of this machine's CPU."""
    return Limits(
        gemm=f"one product of two matrices of {SIZE} x {SIZE}",
        fp32_gflop_per_s=_gemm_rate("MatMul", np.float32, np.float32, threads),
        int8_gop_per_s=_gemm_rate("MatMulInteger", np.uint8, np.int8, threads),
        copy_gb_per_s=_copy_rate(threads),
        threads=threads,
    )


def measure_device_limits(device: torch.device) -> DeviceLimits:
    """Rates of PyTorch on a device: products in fp16 on a GPU, in fp32 on the CPU, and copies in its own memory."""
    import torch

    on_cuda = device.type == "cuda"
    size, dtype = (8192, torch.float16) if on_cuda else (512, torch.float32)
    left, right = (torch.randn(size, size, device=device).to(dtype) for _ in range(2))
    product = torch.empty_like(left)
    source = torch.zeros(2**30 if on_cuda else 2**24, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)

    def time_on_device(work: Callable[[], object]) -> float:
        def finish() -> None:
            work()
            if on_cuda:
                torch.cuda.synchronize()

        return _median_seconds(finish, GPU_REPEATS, warm_up=3)

    seconds = time_on_device(lambda: torch.mm(left, right, out=product))
    copy_seconds = time_on_device(lambda: target.copy_(source))
    return DeviceLimits(
        gemm=f"{size}^3 {str(dtype).removeprefix('torch.')}",
        gemm_tflops_per_s=round(2 * size**3 / seconds / 1e12, 4),
        copy_bytes=source.numel(),
        copy_gb_per_s=round(2 * source.numel() / copy_seconds / 1e9, 1),
    )


def _gemm_rate(operator: str, left: type, right: type, threads: int) -> float:
    """10^9 operations per second of one matrix product."""
    onnxruntime = require_onnxruntime()
    random = np.random.default_rng(0)
    # Small values, so that no product leaves the range of 32 bits.
    a: NDArray[Any] = random.integers(0, 4, (SIZE, SIZE)).astype(left)
    b: NDArray[Any] = random.integers(0, 4, (SIZE, SIZE)).astype(right)
    result = TensorProto.FLOAT if operator == "MatMul" else TensorProto.INT32
    graph = helper.make_graph(
        [helper.make_node(operator, ["a", "b"], ["c"])],
        "product",
        [helper.make_tensor_value_info("a", helper.np_dtype_to_tensor_dtype(a.dtype), a.shape)],
        [helper.make_tensor_value_info("c", result, None)],
        [onnx.numpy_helper.from_array(b, "b")],  # a constant, as weights are, so that it is laid out once
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    options = session_options(threads)
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return round(2 * SIZE**3 / _median_seconds(lambda: session.run(None, {"a": a}), REPEATS) / 1e9, 1)


def _copy_rate(threads: int) -> float:
    """10^9 bytes per second."""
    size = COPIED_BYTES // threads
    pairs = [(np.ones(size, np.uint8), np.ones(size, np.uint8)) for _ in range(threads)]
    with ThreadPoolExecutor(threads) as pool:
        seconds = _median_seconds(lambda: list(pool.map(lambda pair: np.copyto(*pair), pairs)), REPEATS)
    return round(2 * COPIED_BYTES / seconds / 1e9, 2)


def _median_seconds(work: Callable[[], object], repeats: int, warm_up: int = 1) -> float:
    taken = []
    for _ in range(warm_up + repeats):
        started = time.perf_counter()
        work()
        taken.append(time.perf_counter() - started)
    return statistics.median(taken[warm_up:])
