"""Batches that do not fit, on a device that is made up."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from pahi_rt.models.memory import Batches, TooLittleMemory

CPU = torch.device("cpu")


class Device:
    """Holds `most` rows at once."""

    def __init__(self, most: int) -> None:
        self.most = most
        self.tried: list[int] = []

    def work(self, rows: Tensor) -> Tensor:
        self.tried.append(len(rows))
        if len(rows) > self.most:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return rows + 1


@pytest.mark.parametrize(
    ("most", "first", "then"),
    [(99, [4, 4, 2], [4, 4, 2]), (3, [4, 2, 2, 2, 2, 2], [2] * 5), (1, [4, 2, *[1] * 10], [1] * 10)],
)
def test_half_as_many_from_where_memory_is_too_little(most: int, first: list[int], then: list[int]) -> None:
    device, batches, rows = Device(most), Batches(4, CPU), torch.arange(10)
    for tried in (first, then):
        assert torch.equal(torch.cat(batches.run(device.work, rows)), rows + 1)
        assert device.tried == tried
        device.tried.clear()


def test_not_even_one_row() -> None:
    with pytest.raises(TooLittleMemory, match="1 prompts at once do not fit into the memory of cpu") as caught:
        Batches(4, CPU).run(Device(0).work, torch.arange(3))
    assert caught.value.fix


def test_other_errors_are_not_about_memory() -> None:
    def fail(rows: Tensor) -> Tensor:
        raise RuntimeError("shapes cannot be multiplied")

    with pytest.raises(RuntimeError, match="shapes"):
        Batches(4, CPU).run(fail, torch.arange(3))
