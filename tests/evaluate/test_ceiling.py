"""The ceiling of toys whose linear share is known."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from pahi_rt.errors import PahiError
from pahi_rt.evaluate.ceiling import estimate_ceiling, measure_ceiling
from pahi_rt.evaluate.ceiling_report import Agreement, Estimate, Pair, ScorerCeiling
from pahi_rt.evaluate.ceiling_text import format_ceiling
from pahi_rt.evaluate.moments import Settings
from pahi_rt.evaluate.text import WIDTH
from pahi_rt.models.conditioning import Conditioning
from pahi_rt.train.frozen import Models
from pahi_rt.train.recipe import Recipe, to_toml

SHAPE = (1, 8, 8)
PROMPTS = [f"prompt {number}" for number in range(24)]
MEANINGS = torch.arange(24) // 2
"""Two prompts of each meaning."""
SETTINGS = Settings(pairs=80, gradients=6)

Score = Callable[[Tensor, Tensor], Tensor]
"""(noise [B, D], number of each prompt's meaning [B]) -> scores [B]."""


class Plain(nn.Module):
    """A generator whose pictures are its noise, and whose embedding of a prompt is its meaning, one-hot."""

    latent_shape = SHAPE

    def tokenize(self, prompts: Sequence[str]) -> Tensor:
        return torch.tensor([[int(prompt.split()[1])] for prompt in prompts])

    def encode_prompt(self, ids: Tensor) -> Conditioning:
        features = nn.functional.one_hot(MEANINGS[ids[:, 0]], 12).float()
        return Conditioning(features[:, None], features)

    def draw(self, conditioning: Conditioning, noise: Tensor, steps: int) -> Tensor:
        return noise


class Known(nn.Module):
    name = unit = "known"
    scale = 1.0

    def __init__(self, score: Score) -> None:
        super().__init__()
        self._score = score

    def score(self, images: Tensor, prompts: Sequence[str]) -> Tensor:
        return self._score(images.flatten(1), torch.tensor([MEANINGS[int(prompt.split()[1])] for prompt in prompts]))


def directions(count: int) -> Tensor:
    """Orthonormal rows [count, 64]."""
    return torch.linalg.qr(torch.randn(64, count, generator=torch.Generator().manual_seed(0)))[0].T


COMMON, OWN = directions(13)[:1], directions(13)[1:]


def mixed(noise: Tensor, meaning: Tensor) -> Tensor:
    """Variance 1: 0.2 linear and the same for all, 0.3 linear and of each meaning's own, 0.5 even."""
    first, second = noise @ COMMON[0], (noise * OWN[meaning]).sum(1)
    return 0.2**0.5 * first + 0.3**0.5 * second + 0.5**0.5 * (noise[:, 0].square() - 1) / 2**0.5


def measure(**scores: Score) -> tuple[dict[str, ScorerCeiling], tuple[Agreement, ...]]:
    models = Models(Plain(), {name: Known(score) for name, score in scores.items()})  # type: ignore[arg-type]
    return estimate_ceiling(models, PROMPTS, MEANINGS, SETTINGS)


def near(found: Estimate | None, value: float, within: float) -> bool:
    """Whether the estimate is near the truth, which its interval holds."""
    assert found is not None and found.interval is not None
    assert abs(found.value - value) < within, found
    low, high = found.interval
    return bool(low < value < high)


def test_shares_of_a_known_score() -> None:
    found = measure(mixed=lambda x, meaning: 7 + 3 * mixed(x, meaning))[0]["mixed"]
    assert found.seed_std == pytest.approx(3, rel=0.1)
    assert near(found.odd_share, 0.5, 0.05)
    assert near(found.linear_share, 0.5, 0.06)
    assert near(found.linear_share_by_gradients, 0.5, 0.1)
    assert near(found.shared_share, 0.2, 0.03)
    assert near(found.spread_share, 0.5, 0.15)
    assert near(found.shared_spread_share, 0.5, 0.15)


def test_the_ceiling_is_what_the_best_mean_gains() -> None:
    """Drawn with mu along a, and along E a, at one nat: the score here is linear in the noise along both."""
    found = measure(mixed=mixed)[0]["mixed"]
    noise = torch.randn(4000, 64, generator=torch.Generator().manual_seed(1))
    own = 0.2**0.5 * COMMON[0] + 0.3**0.5 * OWN[0]
    for pair, mu in ((found.ceiling.pahi, own), (found.ceiling.hi, COMMON[0])):
        mu = 2**0.5 * mu / mu.norm()
        meaning = torch.zeros(len(noise), dtype=torch.int64)
        gain = (mixed(noise + mu, meaning) - mixed(noise, meaning)).mean()
        assert near(pair, float(gain), 0.09)


def test_a_score_without_anything_linear_has_no_ceiling() -> None:
    """Its estimate is as often below 0 as above, however few pictures there are for 64 values of noise."""
    found = measure(even=lambda x, meaning: x.square().sum(1), cubic=hermite)[0]
    assert near(found["cubic"].linear_share, 0, 0.06)
    assert near(found["cubic"].shared_share, 0, 0.02)
    assert found["cubic"].odd_share is not None and found["cubic"].odd_share.value == pytest.approx(1)
    assert near(found["even"].spread_share, 1, 0.2)
    even = found["even"]
    assert even.odd_share is not None and even.odd_share.value < 1e-9
    assert even.ceiling.pahi is not None and even.ceiling.pahi.value < 1e-4


def hermite(noise: Tensor, meaning: Tensor) -> Tensor:
    """Odd, and orthogonal to everything linear: the third Hermite polynomial of one value."""
    return (noise[:, 3] ** 3 - 3 * noise[:, 3]) / 6**0.5


def test_a_jump_is_linear_in_the_noise_but_has_no_gradient() -> None:
    """The sign of one value: a share of 2 / pi, of which backpropagation sees nothing."""
    found = measure(jump=lambda x, meaning: (x @ COMMON[0]).sign() + 1e-3 * x.sum(1))[0]["jump"]
    assert near(found.linear_share, 2 / math.pi, 0.08)
    assert found.linear_share_by_gradients is not None
    assert found.linear_share_by_gradients.value < 1e-3
    score_function, pathwise = found.samples["score function"].pahi, found.samples["pathwise"].pahi
    assert score_function is not None and near(score_function, 64 * math.pi / 2, 30)
    assert pathwise is None or pathwise.value > 1e3


def test_samples_of_a_linear_score() -> None:
    """Backpropagation has no noise at all; |s x|^2 is 64 + 2 times the share, less the signal."""
    found = measure(linear=lambda x, meaning: x @ COMMON[0])[0]["linear"]
    assert found.samples["pathwise"].pahi is not None
    assert found.samples["pathwise"].pahi.value < 1e-6
    for pair in (found.samples["score function"].pahi, found.samples["score function"].hi):
        assert near(pair, 65, 8)
    assert near(found.linear_share_by_gradients, 1, 0.1)


def test_clipping_helps_where_few_gradients_are_large() -> None:
    """A steep switch of one value beside a gentle slope of another: the slope's signal drowns without clipping."""

    def switch(noise: Tensor, meaning: Tensor) -> Tensor:
        return noise[:, 0] + (300 * noise[:, 1]).sigmoid()

    samples = measure(switch=switch)[0]["switch"].samples
    pathwise, clipped = samples["pathwise"].hi, samples["clipped"].hi
    assert pathwise is not None and clipped is not None
    assert 10 < pathwise.value < 40
    assert clipped.value < pathwise.value / 20


def test_a_fit_reaches_other_meanings_only_by_what_they_share() -> None:
    """Embeddings are one-hot, so nothing about a meaning is known but what all have in common."""
    found = measure(mixed=mixed, own=lambda x, meaning: (x * OWN[meaning]).sum(1))[0]
    ceiling = math.sqrt(0.4)
    assert found["mixed"].reached.hi is not None and found["mixed"].reached.pahi is not None
    assert 0.8 * ceiling < found["mixed"].reached.hi.value < 1.05 * ceiling
    assert 0.8 * ceiling < found["mixed"].reached.pahi.value < 1.05 * ceiling
    assert near(found["own"].reached.pahi, 0, 0.15)
    assert near(found["own"].linear_share, 1, 0.1)


def test_scorers_agree_on_what_both_say() -> None:
    """Two scores of variance 1 whose linear parts have the cosine 0.6."""

    def other(noise: Tensor, meaning: Tensor) -> Tensor:
        return 0.6 * noise @ COMMON[0] + 0.8 * noise @ OWN[0]

    _, (there, back) = measure(first=lambda x, meaning: x @ COMMON[0], second=other)
    assert (there.of, there.under, back.of) == ("first", "second", "second")
    assert near(there.score_correlation, 0.6, 0.05)
    assert near(there.linear_cosine, 0.6, 0.05)
    assert near(there.ceiling_under, 0.6 * math.sqrt(2), 0.08)


def test_a_scorer_that_cannot_be_differentiated() -> None:
    found = measure(frozen=lambda x, meaning: x.detach() @ COMMON[0])[0]["frozen"]
    assert found.linear_share_by_gradients is None
    assert list(found.samples) == ["score function"]
    assert near(found.linear_share, 1, 0.1)


def test_one_meaning_alone_has_no_shared_share() -> None:
    models = Models(Plain(), {"a": Known(mixed)})  # type: ignore[arg-type]
    found, _ = estimate_ceiling(models, PROMPTS[:2], MEANINGS[:2], SETTINGS)
    scorer = found["a"]
    assert (scorer.shared_share, scorer.ceiling.hi, scorer.reached) == (None, None, Pair(None, None))
    assert scorer.linear_share is not None and scorer.linear_share.interval is None


def test_the_same_again_and_whatever_else_is_drawn() -> None:
    assert measure(a=mixed) == measure(a=mixed)
    small, large = (Settings(pairs=80, gradients=6, batch=batch) for batch in (4, 64))
    models = Models(Plain(), {"a": Known(mixed)})  # type: ignore[arg-type]
    one, other = (estimate_ceiling(models, PROMPTS, MEANINGS, settings)[0]["a"] for settings in (small, large))
    assert one.linear_share is not None and other.linear_share is not None
    assert one.linear_share.value == pytest.approx(other.linear_share.value)


class Small(Plain):
    """On a device that holds three pictures, or one with what backpropagation needs."""

    def draw(self, conditioning: Conditioning, noise: Tensor, steps: int) -> Tensor:
        if len(noise) > (1 if noise.requires_grad else 3):
            raise torch.OutOfMemoryError("CUDA out of memory")
        return noise


def test_pictures_that_do_not_fit_are_drawn_in_smaller_batches() -> None:
    found, whole = (
        estimate_ceiling(Models(model, {"a": Known(mixed)}), PROMPTS, MEANINGS, SETTINGS)[0]["a"]  # type: ignore[arg-type]
        for model in (Small(), Plain())
    )
    for share in ("linear_share", "linear_share_by_gradients"):
        assert getattr(found, share).value == pytest.approx(getattr(whole, share).value)


def test_scores_that_do_not_depend_on_the_noise() -> None:
    with pytest.raises(PahiError, match="scores all pictures of a prompt alike") as caught:
        measure(flat=lambda x, meaning: 0 * x.sum(1))
    assert caught.value.fix


@pytest.mark.parametrize("wrong", [{"pairs": 3}, {"gradients": 1}, {"gradients": -1}, {"batch": 1}])
def test_settings_out_of_range(wrong: dict[str, int]) -> None:
    with pytest.raises(PahiError) as caught:
        Settings(**wrong)
    assert caught.value.fix


def test_the_ceiling_of_a_recipe(recipe: Callable[..., Recipe], tmp_path: Path) -> None:
    """From the recipe's file to the printed table; the toy's redness is linear where no pixel is clamped."""
    (tmp_path / "toy.toml").write_text(to_toml(recipe()))
    report = measure_ceiling(tmp_path / "toy.toml", pictures=40, scorers=["redness"])
    assert (report.prompts, report.pictures, report.noise_values) == (4, 40, 48)
    assert (report.training_samples, report.training_prompts) == (60, 7)
    assert list(report.scorers) == ["redness", "greenness"]
    assert near(report.scorers["redness"].linear_share, 1, 0.3)
    assert near(report.scorers["redness"].shared_share, 1, 0.2)
    table = format_ceiling(report)
    assert max(map(len, table.splitlines())) <= WIDTH
    assert "Caution: with fewer than 30" in table
    assert json.loads(json.dumps(report.to_dict(), allow_nan=False))["definitions"]
    with pytest.raises(PahiError, match="0 prompts"):
        measure_ceiling(tmp_path / "toy.toml", limit=0)
