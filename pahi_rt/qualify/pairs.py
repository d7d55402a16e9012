"""Pairs: prompts and seeds that the reference and everything that is compared with it draw alike."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pahi_rt.bundle import Bundle
from pahi_rt.errors import RequestError
from pahi_rt.export.calibration import GENERAL
from pahi_rt.export.inputs import PROMPTS, Inputs
from pahi_rt.machine import free_memory
from pahi_rt.manifest import GAUSSIAN, STRENGTH
from pahi_rt.noise import draw_noise
from pahi_rt.pipeline import load_tokenizer
from pahi_rt.runtimes import Runtime
from pahi_rt.train.prompts import load_prompts
from pahi_rt.train.recipe import built_in, load_recipe


@dataclass(frozen=True)
class Pairs:
    """Pair j has `prompts[j]` and the noise of seed j, with the prior at full strength."""

    prompts: tuple[str, ...]
    input_ids: NDArray[np.int64]
    """[N, T]"""
    latent_shape: tuple[int, int, int]

    def __len__(self) -> int:
        return len(self.prompts)

    @property
    def clusters(self) -> list[int]:
        """The same number for pairs of one prompt."""
        numbers = {prompt: number for number, prompt in enumerate(dict.fromkeys(self.prompts))}
        return [numbers[prompt] for prompt in self.prompts]

    def inputs(self, prior: str) -> Iterator[Inputs]:
        """The inputs of each pair, as batches of one."""
        return (self.inputs_of(number, prior) for number in range(len(self)))

    def inputs_of(self, number: int, prior: str) -> Inputs:
        """The inputs of one pair, as a batch of one."""
        strength = np.full(1, float(prior != GAUSSIAN), np.float32)
        ids, noise = self.input_ids[number : number + 1], draw_noise([number], self.latent_shape)
        return {"input_ids": ids, "noise": noise, STRENGTH: strength}


def make_pairs(bundle: Bundle, prompts: list[str], count: int) -> Pairs:
    """`count` pairs of these prompts, in turns. Raises PromptError."""
    turns = [prompts[index % len(prompts)] for index in range(count)]
    input_ids = load_tokenizer(bundle).encode(turns).input_ids
    return Pairs(tuple(turns), input_ids, bundle.manifest.image.latent_shape)


def find_recipe(bundle: Bundle, name: str | None) -> str | None:
    """The recipe whose test prompts and scorers judge the bundle: by default the one named like it, if there is one."""
    return name if name is not None or bundle.manifest.name not in built_in() else bundle.manifest.name


def list_prompts(recipe: str | None, source: str | Path | None) -> list[str]:
    """The prompts of `source` (as for `load_prompts`), or else of the recipe's test part, or else general ones.

    Raises PromptError and RecipeError.
    """
    if source is not None:
        return load_prompts(source)
    if recipe is not None:
        return list(load_recipe(recipe).prompts.load().test)
    return [*PROMPTS, *GENERAL]


def draw(runtime: Runtime, pairs: Pairs, prior: str) -> NDArray[np.uint8]:
    """What a runtime draws of all pairs, one at a time: [N, H, W, 3]."""
    rows = (runtime.run(one["input_ids"], one["noise"], one[STRENGTH]) for one in pairs.inputs(prior))
    return gather(rows, len(pairs))


def gather(rows: Iterable[NDArray[np.uint8]], count: int) -> NDArray[np.uint8]:
    """`count` pictures, each [1, H, W, 3], as one array. None is in memory twice."""
    numbered = enumerate(rows)
    _, first = next(numbered)
    pictures = np.empty((count, *first.shape[1:]), np.uint8)
    pictures[0] = first[0]
    for number, row in numbered:
        pictures[number] = row[0]
    return pictures


def check_memory(bundle: Bundle, count: int) -> None:
    """Raises RequestError if `count` pictures of each side do not fit into free memory, which shows before any work."""
    image = bundle.manifest.image
    pair, free = 2 * image.height * image.width * 3, free_memory()
    if count * pair > free:
        what = f"{count} pairs of pictures take {count * pair / 1e9:.1f} GB of memory, and {free / 1e9:.1f} GB are free"
        raise RequestError(what, fix=f"use --pairs {max(2, free // pair)} or fewer, or free memory")
