"""Arrays that a graph is fed with, by the names of its inputs: those of the parity gate, and those of a calibration."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pahi_rt.manifest import STRENGTH
from pahi_rt.noise import draw_noise
from pahi_rt.tokenizer import Tokenizer

PROMPTS = ("a grinning cat", "a red apple", "two birds on a snowy branch", "an old robot, smiling in the rain")
STRENGTHS = (1.0, 0.5, 0.0)
GATE_PROMPTS = (*PROMPTS, *PROMPTS)
"""Each prompt twice, for two noises."""

Inputs = dict[str, NDArray[Any]]


def fixed_inputs(
    tokenizer: Tokenizer,
    latent_shape: tuple[int, int, int],
    prompts: Sequence[str] = GATE_PROMPTS,
    first_seed: int = 0,
) -> Inputs:
    """Inputs of a graph without a prior, a row for each prompt; row j has the noise of `first_seed` + j."""
    noise = draw_noise(range(first_seed, first_seed + len(prompts)), latent_shape)
    return {"input_ids": tokenizer.encode(list(prompts)).input_ids, "noise": noise}


def with_strengths(inputs: Inputs) -> Inputs:
    """The same inputs for a graph with a prior: strengths 1, 0.5, 0, 1, ..."""
    return {**inputs, STRENGTH: np.resize(np.array(STRENGTHS, np.float32), len(inputs["noise"]))}


def pick_row(inputs: Inputs, index: int) -> Inputs:
    """One row, as a batch of one."""
    return {name: array[index : index + 1] for name, array in inputs.items()}


def split_rows(inputs: Inputs) -> list[Inputs]:
    """All rows, as batches of one."""
    return [pick_row(inputs, index) for index in range(len(inputs["noise"]))]
