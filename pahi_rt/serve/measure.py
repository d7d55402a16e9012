"""Batches, measured on this machine: which sizes draw what is drawn alone, and which of them pay.

Whether they draw the same is asked of ONNX Runtime's values before they are rounded to bytes (pahi_rt/unrounded.py),
since after rounding it would take thousands of pictures to find a graph that now and then draws another byte. Other
runtimes can only be asked for bytes.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pahi_rt.choice import Chosen
from pahi_rt.manifest import GAUSSIAN, STRENGTH
from pahi_rt.noise import draw_noise
from pahi_rt.pipeline import Pipeline
from pahi_rt.runtimes.onnxruntime import open_unrounded
from pahi_rt.serve.limits import BATCH_SIZES, MEASURING_SECONDS, WORTH

_WORDS = ("apple", "cat", "panda", "a blue rocket in the night sky", "octopus", "two guitars", "skull", "hamburger")
_ROUNDS = 2
"""Batches of each size. The first one also pays for the new shape."""
_ONNX_RUNTIME = "onnxruntime"

Draw = Callable[[range], list[bytes]]
"""Draws a picture for each seed in one batch."""


@dataclass(frozen=True)
class Measured:
    """Batches of one size."""

    size: int
    seconds: float
    """Per picture, in the fastest batch."""
    is_equal: bool
    """Whether every picture was what it is alone."""


@dataclass(frozen=True)
class Batching:
    """What was measured of one graph, the smallest size first."""

    measured: tuple[Measured, ...]

    @property
    def sizes(self) -> tuple[int, ...]:
        """The sizes that may form: equal to the byte, and faster per picture than every smaller one that may."""
        chosen = [self.measured[0]]
        for one in self.measured[1:]:
            if one.is_equal and one.seconds <= (1 - WORTH) * chosen[-1].seconds:
                chosen.append(one)
        return tuple(one.size for one in chosen)

    @property
    def seconds(self) -> float:
        """Seconds per picture while many wait."""
        return min(one.seconds for one in self.measured if one.size in self.sizes)

    def describe(self) -> str:
        """The measurement on one line."""
        parts = [
            f"{one.size}: {1000 * one.seconds:.1f} ms{'' if one.is_equal else ' but other pictures'}"
            for one in self.measured
        ]
        return f"a picture in a batch of {'; '.join(parts)}. Batches of {' or '.join(map(str, self.sizes))} form"


def measure(pipeline: Pipeline, chosen: Chosen, most: int) -> Batching:
    """Time batches of each size up to `most`, as far as MEASURING_SECONDS allow.

    `chosen` is what the pipeline was loaded with. Raises what `Pipeline.draw` raises, and BundleError.
    """
    draw, ends = _drawing(pipeline), time.perf_counter() + MEASURING_SECONDS
    alone = _seconds(draw, 1)
    times = {1: alone}
    for size in BATCH_SIZES[1:]:
        # Each batch is compared with its pictures drawn alone.
        if size > most or time.perf_counter() + (_ROUNDS + 2) * size * alone > ends:
            break
        times[size] = _seconds(draw, size)
    compared = draw if len(times) == 1 else _comparing(pipeline, chosen) or draw
    return Batching(tuple(Measured(size, seconds, _is_equal(compared, size)) for size, seconds in times.items()))


def _seconds(draw: Draw, size: int) -> float:
    """Seconds per picture in the fastest of a few batches."""
    taken = []
    for first in range(0, _ROUNDS * size, size):
        started = time.perf_counter()
        draw(range(first, first + size))
        taken.append(time.perf_counter() - started)
    return min(taken) / size


def _is_equal(draw: Draw, size: int) -> bool:
    return size == 1 or draw(range(size)) == [draw(range(seed, seed + 1))[0] for seed in range(size)]


def _drawing(pipeline: Pipeline) -> Draw:
    def draw(seeds: range) -> list[bytes]:
        images = pipeline.draw(_input_ids(pipeline, seeds), seeds, _strengths(pipeline, seeds).tolist())
        return [image.tobytes() for image in images]

    return draw


def _comparing(pipeline: Pipeline, chosen: Chosen) -> Draw | None:
    """Draws pictures before they are rounded; None where the runtime or the graph does not let us."""
    if pipeline.runtime.describe()["runtime"] != _ONNX_RUNTIME:
        return None
    unrounded = open_unrounded(chosen)
    if unrounded is None:
        return None

    def draw(seeds: range) -> list[bytes]:
        feeds: dict[str, NDArray[Any]] = {
            "input_ids": _input_ids(pipeline, seeds),
            "noise": draw_noise(seeds, pipeline.bundle.manifest.image.latent_shape),
            STRENGTH: _strengths(pipeline, seeds),
        }
        return [picture.tobytes() for picture in unrounded(feeds)]

    return draw


def _input_ids(pipeline: Pipeline, seeds: range) -> NDArray[np.int64]:
    return pipeline.tokenizer.encode([_WORDS[seed % len(_WORDS)] for seed in seeds]).input_ids


def _strengths(pipeline: Pipeline, seeds: range) -> NDArray[np.float32]:
    most = 0 if pipeline.prior == GAUSSIAN else 1
    return np.array([most * (1 - seed % 4 / 4) for seed in seeds], np.float32)
