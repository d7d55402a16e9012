"""What is measured of scorers, on scorers whose taste is known."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from transformers import CLIPTokenizer

from emoji_model import assessment, preferences
from emoji_model.captions import Captions
from emoji_model.pools import Pool
from emoji_model.sources import STYLES
from pahi_rt.errors import PahiError


def test_invariance_sees_a_scorer_that_loves_contrast(pool: Pool, captions: Captions, words: CLIPTokenizer) -> None:
    labels = [concept.label for concept in captions.concepts]

    def contrast(pictures: torch.Tensor, ids: torch.Tensor) -> torch.Tensor:
        return (pictures - 0.5).abs().mean((1, 2, 3))

    scores = torch.stack([contrast(pictures / 255, words) for pictures in pool.samples[:, 2:]])
    shifts = assessment.invariance(contrast, pool, labels, words)  # type: ignore[arg-type]
    expected = 0.03 * scores.mean() / scores.var(1).mean().sqrt()
    assert shifts["contrast x 1.03"] == pytest.approx(float(expected), rel=0.02)
    assert abs(shifts["sharpened"]) < 0.01


def test_invariance_sees_a_scorer_that_loves_light(pool: Pool, captions: Captions, words: CLIPTokenizer) -> None:
    labels = [concept.label for concept in captions.concepts]

    def brightness(pictures: torch.Tensor, ids: torch.Tensor) -> torch.Tensor:
        return pictures.mean((1, 2, 3))

    shifts = assessment.invariance(brightness, pool, labels, words)  # type: ignore[arg-type]
    assert shifts["floored"] < 0
    assert abs(shifts["sharpened"]) < 0.01


PASSING = {
    "pair_accuracy": dict.fromkeys(preferences.PAIRS, 0.9),
    "shift_by_harmless_changes_in_prompt_std": {"floored": -0.1, "sharpened": 0.0},
}


def test_a_scorer_must_be_good_on_every_kind_of_pair_and_mind_no_harmless_change() -> None:
    assessment.require("emoji-a", PASSING)
    accuracies, shifts = PASSING["pair_accuracy"], PASSING["shift_by_harmless_changes_in_prompt_std"]
    for change, message in (
        ({"pair_accuracy": accuracies | {"sample": 0.84}}, "sample pairs 0.84"),
        ({"pair_accuracy": accuracies | {"clean": 0.89}}, "clean pairs 0.89"),
        ({"pair_accuracy": accuracies | {"real": math.nan}}, "real pairs nan"),
        ({"pair_accuracy": {"real": 1.0}}, "match pairs None"),
        ({"shift_by_harmless_changes_in_prompt_std": shifts | {"floored": -0.11}}, "floored -0.11"),
        ({"shift_by_harmless_changes_in_prompt_std": {}}, "not measured"),
    ):
        with pytest.raises(PahiError, match=message):
            assessment.require("emoji-a", PASSING | change)


def styled_pool() -> Pool:
    """200 concepts; a picture's first channel is its style, the second says how good it is, the third which tint."""
    rng = torch.Generator().manual_seed(0)
    styles = torch.arange(8).remainder(3).expand(200, -1)
    samples = torch.randint(0, 100, (200, 8, 3, 2, 2), generator=rng)
    samples[:, :, 0] = styles[:, :, None, None]
    real = torch.randint(0, 100, (200, 6, 3, 2, 2), generator=rng)
    real[:, :, 0] = torch.arange(6)[:, None, None] // 2
    return Pool(real.to(torch.uint8), samples.to(torch.uint8), torch.ones(200, 8), styles)


def taste(bonus: list[float], goodness: float) -> Any:
    """A scorer that adds `bonus` of the style to `goodness` times the quality."""

    def score(pictures: torch.Tensor, ids: torch.Tensor) -> torch.Tensor:
        style, quality = (pictures[:, 0, 0, 0] * 255).round().long(), pictures[:, 1].mean((1, 2)) * 2.55
        return torch.tensor(bonus)[style] + goodness * quality

    return score


@pytest.fixture
def labels() -> list[str]:
    return ["cat face"] * 200


def test_a_taste_for_a_style_is_measured(labels: list[str], words: CLIPTokenizer) -> None:
    pool = styled_pool()
    found = assessment.style_preferences(taste([1.0, 0.0, -1.0], 1.0), pool, labels, words)
    # Four uniform values from 0 to 1 are averaged: variance 1/48. The four samples of the second half have the styles
    # 1, 2, 0, 1: variance 2/3 between them.
    expected = (2 / 3 + 1 / 48) ** 0.5
    first, second, third = (found["drawings"][name] for name in STYLES)
    assert first == pytest.approx(1 / expected, abs=0.02) and third == pytest.approx(-1 / expected, abs=0.02)
    assert second == pytest.approx(0, abs=0.02)
    assert found["generated_share"] == pytest.approx((2 / 3) / (2 / 3 + 1 / 48), abs=0.02)
    assert found["drawings_spread"] == pytest.approx((1 / 48 / 2 * 2 / 3) ** 0.5 / expected, abs=0.02)


def test_a_neutral_scorer_has_no_taste(labels: list[str], words: CLIPTokenizer) -> None:
    found = assessment.style_preferences(taste([0.0, 0.0, 0.0], 1.0), styled_pool(), labels, words)
    assert all(abs(value) < 0.12 for value in found["drawings"].values())
    assert abs(found["generated_share"]) < 0.1


def test_scorers_may_agree_on_quality_and_not_on_style(labels: list[str], words: CLIPTokenizer) -> None:
    one, other = taste([1.0, 0.0, 0.0], 0.2), taste([0.0, 0.0, 1.0], 0.2)
    found = assessment.agreement([one, other], styled_pool(), labels, words)
    assert found["pictures_of_a_style"] == pytest.approx(1, abs=1e-3)
    assert found["pictures"] < 0
    assert abs(assessment.agreement([one, one], styled_pool(), labels, words)["pictures"] - 1) < 1e-3
