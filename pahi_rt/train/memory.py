"""Chooses the micro-batch: how many prompts at once fit into the device's memory, from trials with one and two.

The gradient of a step is the mean over the whole batch, so the micro-batch only decides memory and speed.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Protocol

import torch

from pahi_rt.models.memory import TooLittleMemory, within_memory

USUAL = 4
"""Prompts at once where memory is not measured: on a CPU more bring nothing."""
HEADROOM = 0.1
"""Share of the memory that is left free: allocators leave gaps, and other programs may use the device too."""

Rehearse = Callable[[int], object]
"""Runs everything that a step does, once, with this number of prompts at once. Raises TooLittleMemory."""


class Memory(Protocol):
    """The memory of a device, in bytes."""

    def available(self) -> int:
        """Memory that this process holds, plus what is free."""

    def peak(self, work: Callable[[], object]) -> int:
        """The most that all tensors took while `work` ran, including those from before."""


class CudaMemory:
    """The memory of a GPU, as PyTorch and the driver report it."""

    def __init__(self, device: torch.device) -> None:
        self._device = device

    def available(self) -> int:
        free, _ = torch.cuda.mem_get_info(self._device)
        return free + torch.cuda.memory_reserved(self._device)

    def peak(self, work: Callable[[], object]) -> int:
        torch.cuda.reset_peak_memory_stats(self._device)
        work()
        return torch.cuda.max_memory_allocated(self._device)


def choose_micro_batch(rehearse: Rehearse, share: int, memory: Memory) -> int:
    """The largest micro-batch that fits, for the `share` of a step's samples that this process has, cut evenly.

    Raises TooLittleMemory if not even one prompt fits.
    """
    rehearse(1)  # Libraries allocate memory of their own on the first call.
    one = memory.peak(lambda: rehearse(1))
    if share == 1 or not _fits(rehearse, 2):
        return 1
    two = memory.peak(lambda: rehearse(2))
    room = (1 - HEADROOM) * memory.available() - two
    count = level(2 + int(max(0.0, room) / max(1, two - one)), share)
    while count > 2 and not _fits(rehearse, count):
        count = level(count // 2, share)
    return count


def level(most: int, share: int) -> int:
    """The smallest size, up to `most`, that cuts `share` into as few parts: 72 in parts of up to 10 are 8 times 9."""
    return math.ceil(share / math.ceil(share / min(most, share)))


def _fits(rehearse: Rehearse, count: int) -> bool:
    try:
        rehearse(count)
    except TooLittleMemory:
        return False
    return True


def fitting(count: int, device: torch.device) -> AbstractContextManager[None]:
    """Turn PyTorch's out-of-memory errors into a TooLittleMemory that says which settings take less."""
    fewer = f"--set optimisation.micro_batch={count // 2} or " if count > 1 else ""
    fix = f"{fewer}--set optimisation.gradient_checkpointing=true; to go on: add --resume"
    return within_memory(count, device, fix)
