"""Table 1 of toys whose win rates, effect sizes and KL are known in closed form.

A picture is one grey level, 0.5 + 0.02 times the sum of the noise over the root of its size; so a score, which is a
multiple of the level, is Gaussian with a standard deviation that is known, and a prior that adds `delta` to every
value of the noise raises it by delta times the root of the size of such deviations.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from pahi_rt.errors import PahiError
from pahi_rt.evaluate.contenders import Contender, Field, best_of, generator_field
from pahi_rt.evaluate.measurements import Settings, draw_eps
from pahi_rt.evaluate.report import Report, Row
from pahi_rt.evaluate.table1 import ALL, evaluate, spread
from pahi_rt.models.conditioning import Conditioning
from pahi_rt.models.priors import HI, PAHI, Prior
from pahi_rt.scorers import statistics

SHAPE = (1, 4, 4)
SIZE = 16
STEP = 0.02
"""One standard deviation of the grey level."""
PROMPTS = [f"prompt {index}" for index in range(60)]
SMALL = Settings(seeds=5, diversity_seeds=4, diversity_prompts=4, batch=32)


class Level(nn.Module):
    """Scores the grey level of a picture, times `factor`."""

    name, unit, scale = "level", "levels", 1.0

    def __init__(self, factor: float = 1.0, bad: float | None = None) -> None:
        super().__init__()
        self.factor, self.bad = factor, bad

    def score(self, images: Tensor, prompts: Sequence[str]) -> Tensor:
        scores = self.factor * images.double().mean((1, 2, 3))
        return scores if self.bad is None else torch.cat([scores[:-1], scores.new_tensor([self.bad])])


class Painter(nn.Module):
    """A generator whose picture is one grey level."""

    latent_shape, pooled_width = SHAPE, 3

    def schedule(self, steps: int) -> None:
        if steps > 4:
            raise PahiError("too many steps", fix="take fewer")

    def tokenize(self, prompts: Sequence[str]) -> Tensor:
        return torch.tensor([[len(prompt)] for prompt in prompts])

    def encode_prompt(self, input_ids: Tensor) -> Conditioning:
        return Conditioning(torch.zeros(len(input_ids), 1, 1), input_ids.float().expand(-1, 3))

    def draw(self, conditioning: Conditioning, noise: Tensor, steps: int = 1) -> Tensor:
        assert len(conditioning.pooled) == len(noise)
        return paint(noise)


class SmallPainter(Painter):
    """On a device that holds five pictures."""

    def draw(self, conditioning: Conditioning, noise: Tensor, steps: int = 1) -> Tensor:
        if len(noise) > 5:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return super().draw(conditioning, noise, steps)


def paint(noise: Tensor) -> Tensor:
    level = 0.5 + STEP * noise.double().sum((1, 2, 3)) / math.sqrt(SIZE)
    return level.view(-1, 1, 1, 1).expand(-1, 3, 8, 8).contiguous()


def prior(delta: float) -> Prior:
    """Adds `delta` standard deviations to the score."""
    learned = HI(SHAPE)
    nn.init.constant_(learned.mu, delta / math.sqrt(SIZE))
    return learned


def field(**deltas: float) -> Field:
    painter: Any = Painter()
    return generator_field(painter, {name: prior(delta) for name, delta in deltas.items()})


def table(
    given: Field, scorer: Level | None = None, settings: Settings = SMALL, prompts: Sequence[str] = PROMPTS
) -> dict[str, Row]:
    report = evaluate("toy", given, {"test": prompts}, {"level": scorer or Level()}, settings=settings)
    (group,) = report.groups
    return {row.name: row for row in group.rows}


@pytest.fixture(scope="module", autouse=True)
def few_resamples() -> Iterator[None]:
    """What is tested here are the means."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(statistics, "RESAMPLES", 200)
        yield


@pytest.fixture(scope="module")
def rows() -> dict[str, Row]:
    return table(field(better=1.0, hair=0.01, worse=-1.0))


def phi(x: float) -> float:
    return 0.5 * (1 + math.erf(x / math.sqrt(2)))


def test_every_row_is_there_and_the_gaussian_first(rows: dict[str, Row]) -> None:
    names = ["Gaussian", "better", "hair", "worse", "eps x 0.8", "low x1.5, rest x0.7"]
    names += ["high x1.5, rest x0.7", "best of 4 (4x cost)"]
    assert list(rows) == names
    assert [row.pictures_drawn for row in rows.values()] == [1] * 7 + [4]


def test_the_gaussian_against_itself_is_a_tie(rows: dict[str, Row]) -> None:
    score = rows["Gaussian"].scores["level"]
    assert score.same_noise_win_rate_percent == score.margin_win_rate_percent == 50
    assert score.same_noise_win_rate_std_percent == 0
    assert score.same_noise_win_rate_interval_percent == (50.0, 50.0)
    assert score.independent_win_rate_percent == 50
    assert score.effect_size == 0
    assert score.mean_score == score.gaussian_mean_score == pytest.approx(0.5, abs=4 * STEP / math.sqrt(300))
    assert score.seed_std == pytest.approx(STEP, rel=0.15)
    assert rows["Gaussian"].kl_nats == 0
    assert rows["Gaussian"].diversity_ratio is not None
    assert rows["Gaussian"].diversity_ratio.value == 1


@pytest.mark.parametrize(("name", "delta"), [("better", 1.0), ("worse", -1.0), ("hair", 0.01)])
def test_a_shift_of_the_noise_is_its_effect_size(rows: dict[str, Row], name: str, delta: float) -> None:
    row, score = rows[name], rows[name].scores["level"]
    assert score.same_noise_win_rate_percent == (100 if delta > 0 else 0)
    assert score.same_noise_win_rate_std_percent == 0
    assert score.effect_size == pytest.approx(delta, rel=0.15)
    assert score.mean_score - score.gaussian_mean_score == pytest.approx(delta * STEP, rel=1e-3)
    assert score.margin_win_rate_percent == (50 if abs(delta) < 0.3 else score.same_noise_win_rate_percent)
    assert score.independent_win_rate_percent == pytest.approx(100 * phi(delta / math.sqrt(2)), abs=6)
    assert row.kl_nats == pytest.approx(delta**2 / 2, rel=1e-4, abs=1e-6)
    assert row.diversity_ratio is not None
    assert row.diversity_ratio.value == pytest.approx(1, abs=0.01)


def test_the_best_of_four_wins_as_chance_has_it(rows: dict[str, Row]) -> None:
    row, score = rows["best of 4 (4x cost)"], rows["best of 4 (4x cost)"].scores["level"]
    assert row.kl_nats == pytest.approx(math.log(4) - 0.75)
    # Of five pictures that nothing tells apart, the best is one of the four in 80 % of cases; 87.5 % if one is shared.
    assert score.same_noise_win_rate_percent == pytest.approx(80, abs=5)
    assert score.independent_win_rate_percent == pytest.approx(80, abs=4)
    assert score.effect_size == pytest.approx(1.029, abs=0.15)


def test_baselines_do_to_the_level_what_they_do_to_the_noise(rows: dict[str, Row]) -> None:
    smaller, smoother = rows["eps x 0.8"], rows["low x1.5, rest x0.7"]
    assert smaller.diversity_ratio is not None
    assert smoother.diversity_ratio is not None
    # The level is the lowest frequency of the noise.
    assert smaller.diversity_ratio.value == pytest.approx(0.8, abs=0.01)
    assert smoother.diversity_ratio.value == pytest.approx(1.5, abs=0.01)
    assert smaller.scores["level"].same_noise_win_rate_percent == pytest.approx(50, abs=6)


def test_a_prior_that_knows_one_picture_has_no_diversity() -> None:
    narrow = prior(1.0)
    nn.init.constant_(narrow.get_parameter("sigma"), 0.1)
    painter: Any = Painter()
    row = table(generator_field(painter, {"narrow": narrow}))["narrow"]
    assert row.diversity_ratio is not None
    assert row.diversity_ratio.value == pytest.approx(0.01, abs=1e-3)
    assert row.kl_nats == pytest.approx(0.5 + SIZE * ((0.01**2 - 1) / 2 - math.log(0.01)), rel=1e-3)


def test_flat_pictures_have_no_sharpness_ratio(rows: dict[str, Row]) -> None:
    assert rows["better"].sharpness_ratio is None


def test_sharpness_is_by_the_gaussians_and_not_of_the_contrast() -> None:
    ramp = torch.tensor([0.0, 0.0, 0.0, 0.5, 1.0, 1.0, 1.0, 1.0])

    def edge(name: str, row: Tensor) -> Contender:
        return Contender(name, lambda encoded, eps: row.expand(len(eps), 3, 8, 8), nothing)

    rows = table(
        replace(field(), contenders=(edge("step", ramp.round()), edge("pale", 0.2 * ramp), edge("soft", ramp)))
    )
    # One step of 1 has second differences 1 and 1; two of a half have 0.5 and 0.5.
    for name, expected in (("pale", 0.5), ("soft", 0.5)):
        ratio = rows[name].sharpness_ratio
        assert ratio is not None
        assert ratio.value == pytest.approx(expected)
        assert ratio.interval == pytest.approx((expected, expected))


def nothing(encoded: Any) -> Tensor:
    return torch.zeros(len(encoded.pooled))


def test_kl_that_cannot_be_known_is_none() -> None:
    given = field(better=1.0)
    unknown = replace(given.contenders[1], kl=lambda encoded: torch.full((len(encoded.pooled),), torch.nan))
    rows = table(replace(given, contenders=(given.contenders[0], unknown)))
    assert rows["better"].kl_nats is None


def test_another_judge() -> None:
    scorers = {"level": Level(), "dark": Level(-1.0)}
    report = evaluate("toy", field(), {"test": PROMPTS}, scorers, judge="dark", settings=SMALL)
    best = report.groups[0].rows[-1].scores
    assert report.judge == "dark"
    assert best["dark"].mean_score > best["dark"].gaussian_mean_score
    assert best["level"].mean_score < best["level"].gaussian_mean_score
    with pytest.raises(PahiError) as caught:
        evaluate("toy", field(), {"test": PROMPTS}, scorers, judge="nobody", settings=SMALL)
    assert caught.value.fix == "use one of level, dark"


def test_the_judge_is_the_first_scorer() -> None:
    scorers = {"level": Level(), "dark": Level(-1.0)}
    report = evaluate("toy", field(), {"test": PROMPTS}, scorers, settings=SMALL)
    best = report.groups[0].rows[-1].scores
    assert report.judge == "level"
    assert best["level"].effect_size == pytest.approx(-(best["dark"].effect_size or 0))
    assert best["level"].independent_win_rate_percent == pytest.approx(100 - best["dark"].independent_win_rate_percent)


def test_equal_arguments_give_an_equal_report() -> None:
    one, other = (evaluate("toy", field(b=0.3), {"test": PROMPTS[:9]}, {"x": Level()}, settings=SMALL) for _ in "12")
    assert one == other


@pytest.mark.parametrize("batch", [1, 5])
def test_batches_do_not_matter(batch: int) -> None:
    whole, parts = (
        table(field(better=1.0), settings=replace(SMALL, batch=size), prompts=PROMPTS[:12]) for size in (12, batch)
    )
    for name, row in whole.items():
        score, other = row.scores["level"], parts[name].scores["level"]
        assert other.independent_win_rate_percent == pytest.approx(score.independent_win_rate_percent)
        assert other.same_noise_win_rate_percent == pytest.approx(score.same_noise_win_rate_percent)
        assert other.effect_size == pytest.approx(score.effect_size)


def test_a_prompts_noise_depends_on_nothing_else() -> None:
    noise = draw_eps(PROMPTS, 3, 0, SHAPE)
    assert torch.equal(draw_eps(PROMPTS[5:6], 3, 0, SHAPE), noise[5:6])
    drawn = [draw_eps(PROMPTS[:2], seed, candidate, SHAPE) for seed in (0, 1, 1 << 20) for candidate in (0, 1)]
    assert len({tuple(row.flatten().tolist()) for part in drawn for row in part}) == 12
    assert abs(float(noise.mean())) < 0.1
    assert float(noise.std()) == pytest.approx(1, abs=0.1)


def test_a_prior_reads_its_own_prompt() -> None:
    """PAHI's noise goes with the prompt that it was predicted from, in every batch."""
    learned = PAHI(3, SHAPE, 4, init="zero")
    for weight in (learned.mu.get_parameter("0.weight"), learned.mu.get_parameter("2.weight")):
        nn.init.ones_(weight)
    painter: Any = Painter()
    prompts = ["x" * length for length in (1, 9, 2, 8)]
    given = generator_field(painter, {"pahi": learned})
    report = evaluate("toy", given, {prompt: [prompt] for prompt in prompts}, {"level": Level()}, settings=SMALL)
    gains = [group.rows[1].scores["level"].mean_score - 0.5 for group in report.groups[:4]]
    assert gains[0] < gains[2] < gains[3] < gains[1]


# Groups


def test_groups_are_reported_apart_and_together() -> None:
    groups = {"unseen concepts": PROMPTS[:10], "new phrasings": PROMPTS[10:40]}
    given = field(better=0.5)
    report = evaluate("toy", given, groups, {"level": Level()}, settings=SMALL)
    assert [(group.name, group.prompts) for group in report.groups] == [*zip(groups, (10, 30), strict=True), (ALL, 40)]
    assert [group.diversity_prompts for group in report.groups] == [4, 4, 8]
    first, second, whole = (group.rows[-1].scores["level"].mean_score for group in report.groups)
    assert whole == pytest.approx((10 * first + 30 * second) / 40)
    alone = evaluate("toy", given, {"unseen concepts": PROMPTS[:10]}, {"level": Level()}, settings=SMALL)
    assert alone.groups == report.groups[:1]


def test_one_prompt() -> None:
    report = evaluate("toy", field(better=1.0), {"test": ["a"]}, {"level": Level()}, settings=SMALL)
    score = report.groups[0].rows[1].scores["level"]
    assert score.same_noise_win_rate_percent == 100
    assert score.independent_win_rate_interval_percent is None
    assert json.loads(json.dumps(report.to_dict(), allow_nan=False))["groups"][0]["prompts"] == 1


@pytest.mark.parametrize(("length", "count", "expected"), [(3, 5, [0, 1, 2]), (10, 5, [0, 2, 4, 6, 8]), (7, 1, [0])])
def test_prompts_for_diversity_are_evenly_spread(length: int, count: int, expected: list[int]) -> None:
    assert spread(range(length), count) == expected


def test_diversity_of_all_weighs_prompts_alike_and_not_groups() -> None:
    """A prior that draws one picture only for prompts of one group: 10 of 40, though each group is measured on four."""

    def narrow(encoded: Any, eps: Tensor) -> Tensor:
        wide = (encoded.pooled[:, 0] > 5).view(-1, 1, 1, 1)
        return paint(torch.where(wide, eps, 0.0))

    given = field()
    contenders = (given.contenders[0], replace(given.contenders[0], name="narrow", draw=narrow))
    groups = {"short": [f"s {n}" for n in range(10)], "long": [f"long {n}" for n in range(30)]}
    settings = replace(SMALL, diversity_seeds=64)
    report = evaluate("toy", replace(given, contenders=contenders), groups, {"level": Level()}, settings=settings)
    short, long, whole = (group.rows[1].diversity_ratio for group in report.groups)
    assert short and long and whole
    assert (short.value, long.value) == (0, 1)
    # 3/4 but for chance in the Gaussian's own distances; weighed by groups it would be 1/2.
    assert whole.value == pytest.approx(0.75, abs=0.03)
    assert whole.interval is not None
    assert whole.interval[0] < 0.75 < whole.interval[1]


# What is refused


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_scores_that_are_not_finite(bad: float) -> None:
    with pytest.raises(PahiError, match="level gives NaN or infinity for 1 of 32 pictures"):
        table(field(), Level(bad=bad))


def test_a_scorer_with_another_shape() -> None:
    @dataclass
    class Mean(Level):
        def __post_init__(self) -> None:
            super().__init__()

        def score(self, images: Tensor, prompts: Sequence[str]) -> Tensor:
            return images.mean()

    with pytest.raises(PahiError, match=r"shape \[\] for 32 pictures"):
        table(field(), Mean())


def test_a_prior_of_another_generator() -> None:
    painter: Any = Painter()
    with pytest.raises(PahiError, match="noise of shape"):
        generator_field(painter, {"other": HI((1, 4, 5))})


@pytest.mark.parametrize("groups", [{}, {"test": []}, {"one": ["a"], "two": []}])
def test_no_prompts(groups: dict[str, list[str]]) -> None:
    with pytest.raises(PahiError) as caught:
        evaluate("toy", field(), groups, {"level": Level()}, settings=SMALL)
    assert caught.value.fix == "give at least one"


def test_no_scorers() -> None:
    with pytest.raises(PahiError) as caught:
        evaluate("toy", field(), {"test": ["a"]}, {}, settings=SMALL)
    assert caught.value.fix == 'name at least one, such as "pickscore"'


@pytest.mark.parametrize("wrong", [{"seeds": 1}, {"diversity_seeds": 1}, {"diversity_prompts": 0}, {"batch": 0}])
def test_settings_out_of_range(wrong: dict[str, int]) -> None:
    with pytest.raises(PahiError, match="too few"):
        Settings(**wrong)


def test_best_of_keeps_how_its_pictures_are_drawn() -> None:
    plain = field().contenders[0]
    assert best_of(plain, 3).draw is plain.draw
    assert isinstance(evaluate("toy", field(), {"test": ["a"]}, {"x": Level()}, settings=SMALL), Report)


def test_pictures_that_do_not_fit_are_drawn_in_smaller_batches() -> None:
    painter: Any = SmallPainter()
    small = table(generator_field(painter, {"better": prior(1.0)}), prompts=PROMPTS[:12])
    whole = table(field(better=1.0), prompts=PROMPTS[:12])
    for name, row in small.items():
        assert row.scores["level"].mean_score == pytest.approx(whole[name].scores["level"].mean_score)
        assert row.diversity_ratio == pytest.approx(whole[name].diversity_ratio)
