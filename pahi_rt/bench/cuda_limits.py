"""What a device can do at best, and what a picture asks of it: the limits that a latency is judged by."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

REPEATS = 20


def measure_limits(device: torch.device) -> dict[str, Any]:
    """Rates that this device attains now: fp16 matrix products (fp32 on the CPU), and copies in its own memory.

    A copied byte counts twice, for it is read and written.
    """
    on_cuda = device.type == "cuda"
    size, dtype = (8192, torch.float16) if on_cuda else (512, torch.float32)
    left, right = (torch.randn(size, size, device=device).to(dtype) for _ in range(2))
    product = torch.empty_like(left)
    source = torch.zeros(2**30 if on_cuda else 2**24, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    seconds = _median_seconds(lambda: torch.mm(left, right, out=product), device)
    copy_seconds = _median_seconds(lambda: target.copy_(source), device)
    return {
        "gemm": f"{size}^3 {str(dtype).removeprefix('torch.')}",
        "gemm_tflops_per_s": round(2 * size**3 / seconds / 1e12, 4),
        "copy_bytes": source.numel(),
        "copy_gb_per_s": round(2 * source.numel() / copy_seconds / 1e9, 1),
    }


def _median_seconds(work: Callable[[], Tensor], device: torch.device) -> float:
    samples = []
    for _ in range(REPEATS + 3):
        started = time.perf_counter()
        work()
        if device.type == "cuda":
            torch.cuda.synchronize()
        samples.append(time.perf_counter() - started)
    return statistics.median(samples[3:])


@torch.no_grad()
def count_flops(module: nn.Module, arguments: list[Tensor]) -> int:
    """Floating-point operations of one call, a multiply-add being two: convolutions and matrix products alone."""
    counter = FlopCounterMode(display=False)
    # Fused attention kernels of some devices are not in the counter's list; the plain one is two matrix products.
    with sdpa_kernel(SDPBackend.MATH), counter:
        module(*arguments)
    return int(counter.get_total_flops())
