"""What this machine's CPU attains at best, measured with ONNX Runtime itself: the limit that a latency is judged by."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper

from pahi_rt.runtimes.onnxruntime import require_onnxruntime, session_options

SIZE = 2048
"""Rows and columns of the matrices: large enough to compute, and not to wait for memory."""
REPEATS = 7
COPIED_BYTES = 2**28


def measure_limits(threads: int) -> dict[str, Any]:
    """Rates of large matrix products in 10^9 operations/s, in 32 and in 8 bits, and of copies in 10^9 bytes/s.

    A copied byte counts twice, for it is read and written.
    """
    return {
        "gemm": f"one product of two matrices of {SIZE} x {SIZE}",
        "fp32_gflop_per_s": _gemm_rate("MatMul", np.float32, np.float32, threads),
        "int8_gop_per_s": _gemm_rate("MatMulInteger", np.uint8, np.int8, threads),
        "copy_gb_per_s": _copy_rate(threads),
        "threads": threads,
    }


def _gemm_rate(operator: str, left: type, right: type, threads: int) -> float:
    onnxruntime = require_onnxruntime()
    random = np.random.default_rng(0)
    # Few values, so that no product leaves the range of 32 bits.
    a: NDArray[Any] = random.integers(0, 4, (SIZE, SIZE)).astype(left)
    b: NDArray[Any] = random.integers(0, 4, (SIZE, SIZE)).astype(right)
    result = TensorProto.FLOAT if operator == "MatMul" else TensorProto.INT32
    graph = helper.make_graph(
        [helper.make_node(operator, ["a", "b"], ["c"])],
        "product",
        [helper.make_tensor_value_info("a", helper.np_dtype_to_tensor_dtype(a.dtype), a.shape)],
        [helper.make_tensor_value_info("c", result, None)],
        [onnx.numpy_helper.from_array(b, "b")],  # weights are constants, which are laid out once
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    options = session_options(threads)
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return round(2 * SIZE**3 / _seconds(lambda: session.run(None, {"a": a})) / 1e9, 1)


def _copy_rate(threads: int) -> float:
    pairs = [
        (np.ones(COPIED_BYTES // threads, np.uint8), np.ones(COPIED_BYTES // threads, np.uint8)) for _ in range(threads)
    ]
    with ThreadPoolExecutor(threads) as pool:
        seconds = _seconds(lambda: list(pool.map(lambda pair: np.copyto(*pair), pairs)))
    return round(2 * COPIED_BYTES / seconds / 1e9, 2)


def _seconds(work: Callable[[], object]) -> float:
    work()
    taken = []
    for _ in range(REPEATS):
        started = time.perf_counter()
        work()
        taken.append(time.perf_counter() - started)
    return statistics.median(taken)
