"""What is drawn at once, and what happens where it does not fit into the device's memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TypeVar

import torch
from torch import Tensor

from pahi_rt.errors import PahiError, is_out_of_memory

Rows = TypeVar("Rows", Tensor, Sequence[str])
Result = TypeVar("Result")
_MORE = "free memory on the device, or use one that has more"


class TooLittleMemory(PahiError):
    """What is drawn at once does not fit into the device's memory."""


@contextmanager
def within_memory(count: int, device: torch.device, fix: str = _MORE) -> Iterator[None]:
    """Turn PyTorch's out-of-memory errors into a TooLittleMemory that names `count`, the prompts drawn at once."""
    try:
        yield
    except RuntimeError as error:
        if not is_out_of_memory(error):
            raise
        raise TooLittleMemory(f"{count} prompts at once do not fit into the memory of {device}", fix=fix) from error


class Batches:
    """Works in batches of at most `size` rows, and of half as many from where they do not fit into memory."""

    def __init__(self, size: int, device: torch.device) -> None:
        self.size, self._device = size, device

    def run(self, work: Callable[[Rows], Result], rows: Rows) -> list[Result]:
        """The result of `work` for each batch of `rows`. Raises TooLittleMemory if not even one row fits."""
        results: list[Result] = []
        start = 0
        while start < len(rows):
            batch = rows[start : start + self.size]
            try:
                with within_memory(len(batch), self._device):
                    results.append(work(batch))
            except TooLittleMemory:
                if len(batch) == 1:
                    raise
                self.size = len(batch) // 2
            else:
                start += len(batch)
        return results
