"""How many prompts are drawn at once, on devices that are made up."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from pahi_rt.models.memory import TooLittleMemory
from pahi_rt.train.memory import choose_micro_batch, fitting, level

GIB = 2**30


class Device:
    """Holds 1 GiB of weights; every prompt at once takes more. What others hold, and gaps, are not known beforehand."""

    def __init__(self, size: float, prompt: float, gaps: float = 0.0) -> None:
        self.size, self.prompt, self.gaps = size, prompt, gaps
        self.tried: list[int] = []
        self.most = 0.0

    def rehearse(self, count: int) -> None:
        self.tried.append(count)
        needed = 1 + count * self.prompt
        with fitting(count, torch.device("cpu")):
            if needed + self.gaps * count > self.size:
                raise torch.OutOfMemoryError("CUDA out of memory")
        self.most = needed

    def available(self) -> int:
        return int(self.size * GIB)

    def peak(self, work: Callable[[], object]) -> int:
        work()
        return int(self.most * GIB)


def choose(device: Device, share: int = 72) -> int:
    return choose_micro_batch(device.rehearse, share, device)


@pytest.mark.parametrize(
    ("size", "prompt", "share", "count"),
    [
        (24, 1.43, 72, 14),  # (0.9 * 24 - 1) / 1.43 = 14.4: six parts of 12 would be five of 15
        (16, 1.43, 72, 9),  # 9.3, and 72 = 8 * 9
        (10, 1.43, 72, 5),  # 5.6: 15 parts
        (80, 1.43, 72, 36),  # 49: two parts
        (200, 1.43, 72, 72),
        (80, 1.43, 1, 1),
        (4.2, 1.43, 72, 2),
        (3, 1.43, 72, 1),
    ],
)
def test_as_many_as_fit(size: float, prompt: float, share: int, count: int) -> None:
    device = Device(size, prompt)
    expected = level(count, share)
    assert choose(device, share) == expected
    assert max(device.tried) == expected or expected == 1


def test_what_was_reckoned_wrongly_is_halved() -> None:
    device = Device(24, 0.5, gaps=1.0)
    assert choose(device) == 9
    assert device.tried == [1, 1, 2, 2, 36, 18, 9]


def test_not_even_one() -> None:
    with pytest.raises(TooLittleMemory, match="1 prompts at once do not fit.*gradient_checkpointing") as caught:
        choose(Device(2, 1.43))
    assert "micro_batch" not in caught.value.fix


@pytest.mark.parametrize(("most", "share", "count"), [(10, 72, 9), (72, 72, 72), (100, 72, 72), (5, 6, 3), (1, 7, 1)])
def test_parts_are_alike(most: int, share: int, count: int) -> None:
    assert level(most, share) == count
