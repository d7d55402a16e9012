"""How many prompts are drawn at once: what fits into the memory of the device, found out by trying one and two.

However many there are, a step's gradient is the mean over the whole batch: the number decides memory and speed.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Protocol

import torch

from pahi_rt.errors import PahiError

USUAL = 4
"""Prompts at once where memory is not measured: a CPU gains nothing by more."""
HEADROOM = 0.1
"""Share of the memory that is left alone: allocators leave gaps, and others may use the device too."""

Rehearse = Callable[[int], object]
"""Goes once through all that a step does, with so many prompts at once. Raises TooLittleMemory."""


class TooLittleMemory(PahiError):
    """So many prompts at once do not fit."""


class Memory(Protocol):
    """Of a device, in bytes."""

    def available(self) -> int:
        """What this process holds, and could have."""

    def peak(self, work: Callable[[], object]) -> int:
        """The most that tensors took while `work` was done, those included that were there before."""


class CudaMemory:
    """As PyTorch and the driver report it."""

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
    """The most prompts at once that fit, of the `share` of a step that this process has, in parts of like size.

    Raises TooLittleMemory if not even one fits.
    """
    rehearse(1)  # Libraries take memory of their own the first time.
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
    """`most` at once or fewer, such that no fewer parts of `share` would do: 72 in parts of up to 10 are 8 times 9."""
    return math.ceil(share / math.ceil(share / min(most, share)))


def _fits(rehearse: Rehearse, count: int) -> bool:
    try:
        rehearse(count)
    except TooLittleMemory:
        return False
    return True


@contextmanager
def fitting(count: int, device: torch.device) -> Iterator[None]:
    """While entered, `count` prompts are drawn at once: where the device lacks memory, a TooLittleMemory is raised."""
    try:
        yield
    except torch.OutOfMemoryError as error:
        what = f"{count} prompts at once do not fit into the memory of {device}"
        fewer = f"--set optimisation.micro_batch={count // 2} or " if count > 1 else ""
        fix = f"{fewer}--set optimisation.gradient_checkpointing=true; to go on: --resume --recipe RUN/recipe.toml"
        raise TooLittleMemory(what, fix=fix) from error
