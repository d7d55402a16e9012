"""Scores of a row: the mean of its pictures' by the scorers of the bundle's recipe."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from pahi_rt import Pipeline
from pahi_rt.bench.scores import Judges, score
from pahi_rt.scorers import load_scorer


def test_a_row_scores_the_mean_of_its_pictures() -> None:
    judges, pipeline = Judges("emoji", 3), Pipeline.load("emoji", runtime="onnxruntime")
    means = judges.score(pipeline)
    assert means is not None and list(means) == ["emoji-a", "emoji-b"]
    pictures = np.stack([np.asarray(pipeline(prompt, seed=seed)) for seed, prompt in enumerate(judges.prompts)])
    expected = score(load_scorer("emoji-a"), pictures, judges.prompts)
    assert expected.shape == torch.Size([3])
    assert means["emoji-a"] == pytest.approx(float(expected.mean()), abs=1e-4)


@pytest.mark.parametrize(("recipe", "count"), [("no such recipe", 3), ("emoji", 0)])
def test_without_scorers_there_are_no_scores(recipe: str, count: int) -> None:
    judges = Judges(recipe, count)
    assert judges.score(Pipeline.load("emoji", runtime="onnxruntime")) is None
    assert judges.prompts == []
