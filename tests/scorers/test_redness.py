from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from pahi_rt.errors import PahiError
from pahi_rt.scorers import load_scorer


def test_colours_have_the_scores_that_the_formula_gives() -> None:
    colours = torch.tensor([[1.0, 0, 0], [0, 1, 1], [0.5, 0.5, 0.5], [1, 0.5, 0]]).view(4, 3, 1, 1).expand(4, 3, 5, 7)
    scores = load_scorer("redness").score(colours, ["anything"] * 4)
    assert scores.tolist() == pytest.approx([1, -1, 0, 0.75])


def test_gradients_reach_the_pictures(images: Tensor, prompts: list[str], check_gradients: Callable[..., Any]) -> None:
    check_gradients(load_scorer("redness"), images, prompts)


def test_there_is_nothing_to_load() -> None:
    with pytest.raises(PahiError) as caught:
        load_scorer("redness:somewhere")
    assert caught.value.fix == "write redness alone"
