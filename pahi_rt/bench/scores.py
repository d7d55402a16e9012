"""Scores the rows of Table 2: means over a recipe's test prompts, from the same noise in all rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pahi_rt import Pipeline
from pahi_rt.scorers import Scorer, load_scorer
from pahi_rt.train.recipe import built_in, load_recipe


class Judges:
    """A recipe's test prompts, at most `count`, and its scorers; neither where there is no recipe of that name."""

    def __init__(self, recipe: str, count: int) -> None:
        self.prompts: list[str] = []
        self._scorers: Mapping[str, Scorer] = {}
        if count and recipe in built_in():
            self.prompts, self._scorers = load_jury(recipe, count)

    def score(self, pipeline: Pipeline) -> dict[str, float] | None:
        """Scorer -> mean score in its own unit; None without a scorer."""
        if not self._scorers:
            return None
        pictures = np.stack([np.asarray(pipeline(prompt, seed=seed)) for seed, prompt in enumerate(self.prompts)])
        means = {label: score(scorer, pictures, self.prompts).mean() for label, scorer in self._scorers.items()}
        return {label: round(float(mean), 4) for label, mean in means.items()}


def load_jury(recipe: str, count: int) -> tuple[list[str], dict[str, Scorer]]:
    """A recipe's test prompts, at most `count`, and the scorers that it evaluates with, by label."""
    settings = load_recipe(recipe)
    prompts = list(settings.prompts.load().test[:count])
    return prompts, {label: load_scorer(label) for label in settings.scorers.evaluation}


@torch.no_grad()
def score(scorer: Scorer, pictures: NDArray[np.uint8], prompts: Sequence[str]) -> Tensor:
    """Scores [N] of pictures [N, H, W, 3], in the scorer's own unit."""
    return scorer.score(torch.from_numpy(pictures).permute(0, 3, 1, 2) / 255, list(prompts))
