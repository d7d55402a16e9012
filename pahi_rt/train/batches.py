"""Chooses the prompts and draws the noise of a step. Both depend only on the seed, the step and the sample's index.

So a resumed run continues exactly where it was killed, and any number of processes draw the same batch as one process.
Noise is drawn on the CPU, so that it is the same for every device that trains.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from pahi_rt.models.gaussians import LatentShape
from pahi_rt.train.preference import Noise, draw_pair

WEIGHTS, PRETRAINING, ORDER, TRAINING, VALIDATION = range(5)
"""Purposes of random numbers: each has its own for the same seed."""


def seeded(seed: int, purpose: int, step: int = 0, sample: int = 0) -> torch.Generator:
    """An RNG whose state depends only on these four numbers, none of them negative."""
    # PyTorch's RNG reads 32 bits of its seed, so the four numbers are mixed and not put side by side.
    (mixed,) = np.random.SeedSequence([seed, purpose, step, sample]).generate_state(1)
    return torch.Generator().manual_seed(int(mixed))


def choose_prompts(seed: int, step: int, batch: int, count: int) -> list[int]:
    """Indices of the prompts, out of `count`, for the `batch` samples of a step.

    Every prompt comes once before any comes again, each time in a new order.
    """
    places = (divmod(position, count) for position in range(step * batch, (step + 1) * batch))
    return [int(_order(seed, turn, count)[place]) for turn, place in places]


@lru_cache(maxsize=2)  # A batch may begin in one turn and end in the next. To order a million prompts takes a while.
def _order(seed: int, turn: int, count: int) -> Tensor:
    return torch.randperm(count, generator=seeded(seed, ORDER, turn))


def draw_pairs(
    seed: int, purpose: int, step: int, samples: Iterable[int], shape: LatentShape, noise: Noise
) -> tuple[Tensor, Tensor]:
    """Standard Gaussian noise for s and for s', [B, C, h, w] each, for the B `samples` of a step."""
    pairs = [draw_pair((1, *shape), noise, seeded(seed, purpose, step, sample)) for sample in samples]
    first, second = zip(*pairs, strict=True)
    return torch.cat(first), torch.cat(second)
