"""Which prompts and which noise a step reads. Both depend on the seed, the step and the sample's index alone.

So a run that was killed and resumed goes on as if nothing had happened, and any number of processes draw the same
batch as one. Noise is drawn on the CPU, where it is the same whatever device trains.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import torch
from torch import Tensor

from pahi_rt.models.gaussians import LatentShape
from pahi_rt.train.preference import Noise, draw_pair

WEIGHTS, PRETRAINING, ORDER, TRAINING, VALIDATION = range(5)
"""What random numbers are for: one seed gives each purpose its own."""


def seeded(seed: int, purpose: int, step: int = 0, sample: int = 0) -> torch.Generator:
    """Random numbers that depend on these four numbers alone, none of them negative."""
    # PyTorch's generator reads 32 bits of its seed, so the four are mixed rather than put side by side.
    (mixed,) = np.random.SeedSequence([seed, purpose, step, sample]).generate_state(1)
    return torch.Generator().manual_seed(int(mixed))


def choose_prompts(seed: int, step: int, batch: int, count: int) -> list[int]:
    """Which of `count` prompts the `batch` samples of a step have.

    Every prompt comes once before any comes again, in an order that is new each time.
    """
    positions = range(step * batch, (step + 1) * batch)
    turns = {position // count for position in positions}
    orders = {turn: torch.randperm(count, generator=seeded(seed, ORDER, turn)).tolist() for turn in turns}
    return [orders[position // count][position % count] for position in positions]


def draw_pairs(
    seed: int, purpose: int, step: int, samples: Iterable[int], shape: LatentShape, noise: Noise
) -> tuple[Tensor, Tensor]:
    """Standard Gaussian noise for s and for s', [B, C, h, w] each, of the B `samples` of a step."""
    pairs = [draw_pair((1, *shape), noise, seeded(seed, purpose, step, sample)) for sample in samples]
    first, second = zip(*pairs, strict=True)
    return torch.cat(first), torch.cat(second)
