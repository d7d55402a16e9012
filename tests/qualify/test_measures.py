"""Each measure sees what it is for, and passes over what it is not for."""

from __future__ import annotations

import math
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from pahi_rt.bundle import open_bundle
from pahi_rt.judge import Judge
from pahi_rt.qualify import measures
from pahi_rt.qualify.margins import Standard
from pahi_rt.qualify.measures import Expected, Jury, measure
from pahi_rt.qualify.pairs import Pairs, gather, make_pairs

EXACT = Standard.of("fp32", "fp32", keeps_levels=True)
COUNT = 80


@pytest.fixture(scope="module")
def jury(contract: Path) -> Jury:
    return Jury(["redness", "no-such-scorer"], open_bundle(contract))


@pytest.fixture(scope="module")
def pairs() -> Pairs:
    return make_pairs(open_bundle("emoji"), [f"a cat {number}" for number in range(40)], COUNT)


@pytest.fixture(scope="module")
def pictures() -> np.ndarray:
    """Smooth pictures, each of its own."""
    small = np.random.default_rng(0).integers(20, 230, (COUNT, 4, 4, 3)).astype(np.uint8)
    return np.repeat(np.repeat(small, 8, 1), 8, 2)


def verdicts(drawn: np.ndarray, pictures: np.ndarray, pairs: Pairs, jury: Jury) -> dict[str, str | None]:
    found = measure(drawn, Expected.of(pictures, pairs, jury), pairs, jury, EXACT)
    return {name: one.verdict for name, one in found.items()}


def test_pairs_take_prompts_in_turns(pairs: Pairs) -> None:
    assert len(pairs) == COUNT and pairs.clusters == [*range(40), *range(40)]
    noises = [one["noise"] for one in pairs.inputs("pahi")]
    assert not np.array_equal(noises[0], noises[40])
    assert [float(next(pairs.inputs(prior))["prior_strength"][0]) for prior in ("pahi", "gaussian")] == [1, 0]


def test_equal_pictures_pass_everything(pictures: np.ndarray, pairs: Pairs, jury: Jury) -> None:
    found = verdicts(pictures, pictures, pairs, jury)
    assert set(found.values()) == {"pass", None}
    assert "score_redness_change_sd" in found
    assert list(jury.missing) == ["score_no-such-scorer_change_sd"]


def test_scorers_in_the_bundle_need_no_other_package(pictures: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measures, "load_scorer", lambda spec: pytest.fail(f"{spec} was loaded"))
    jury = Jury(["emoji-b"], open_bundle("emoji"))
    large, prompts = np.repeat(np.repeat(pictures[:2], 4, 1), 4, 2), ["a cat", "a dog"]
    found = jury.scores(large, prompts)
    assert list(found) == ["emoji-a", "emoji-b"]
    images = [Image.fromarray(picture) for picture in large]
    assert found["emoji-b"].tolist() == Judge.load("emoji", "emoji-b").score(images, prompts)


def test_a_scorer_of_other_sizes_is_missing(pictures: np.ndarray) -> None:
    jury = Jury([], open_bundle("emoji"))
    assert jury.scores(pictures[:1], ["a cat"]) == {}
    assert "128x128" in jury.missing["score_emoji-a_change_sd"]


def test_a_scorer_that_gives_nan_is_missing(pictures: np.ndarray, contract: Path) -> None:
    jury = Jury(["redness"], open_bundle(contract))
    jury.scorers["redness"] = lambda pictures, prompts: torch.tensor([0.1, math.nan])
    assert jury.scores(pictures[:2], ["a cat", "a dog"]) == {}
    assert "gives NaN or infinity for 1 of 2 pictures" in jury.missing["score_redness_change_sd"]


def test_a_shift_of_two_levels_is_seen(pictures: np.ndarray, pairs: Pairs, jury: Jury) -> None:
    found = verdicts(pictures + 2, pictures, pairs, jury)
    assert (found["levels_within_one_share"], found["psnr_db"]) == ("fail", "fail")
    assert (found["other_pictures_share"], found["blank_pictures"]) == ("pass", "pass")


def test_other_pictures_are_counted(pictures: np.ndarray, pairs: Pairs, jury: Jury) -> None:
    drawn = pictures.copy()
    drawn[:20] = pictures[20:40]
    found = verdicts(drawn, pictures, pairs, jury)
    assert (found["other_pictures_share"], found["perceptual_distance"], found["ssim"]) == ("fail", "fail", "fail")


@pytest.mark.parametrize("standard", [EXACT, Standard.of("w8", "fp32", keeps_levels=True)])
def test_measuring_copies_few_pictures_at_once(jury: Jury, standard: Standard) -> None:
    count = 320
    pairs = make_pairs(open_bundle("emoji"), ["a cat"], count)
    pictures = np.random.default_rng(0).integers(0, 256, (count, 64, 64, 3), np.uint8)
    drawn = pictures.copy()
    tracemalloc.start()
    try:
        measure(drawn, Expected.of(pictures, pairs, jury), pairs, jury, standard)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < pictures.nbytes / 2


def test_pictures_are_gathered_without_a_copy_of_all() -> None:
    count, one = 200, np.zeros((1, 64, 64, 3), np.uint8)
    tracemalloc.start()
    try:
        found = gather((one + np.uint8(number) for number in range(count)), count)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert found.shape == (count, 64, 64, 3) and found[:, 5, 5, 1].tolist() == list(range(count))
    assert peak < 1.2 * found.nbytes


def test_one_blank_picture_is_enough(pictures: np.ndarray, pairs: Pairs, jury: Jury) -> None:
    drawn = pictures.copy()
    drawn[7] = 0
    assert verdicts(drawn, pictures, pairs, jury)["blank_pictures"] == "fail"
    both = pictures.copy()
    both[7] = 0
    assert verdicts(both, both, pairs, jury)["blank_pictures"] == "pass"


def test_a_scorer_sees_a_worse_score_and_not_a_better_one(pictures: np.ndarray, pairs: Pairs, jury: Jury) -> None:
    less, more = pictures.copy(), pictures.copy()
    less[..., 0] -= 20
    more[..., 0] += 20
    assert verdicts(less, pictures, pairs, jury)["score_redness_change_sd"] == "fail"
    assert verdicts(more, pictures, pairs, jury)["score_redness_change_sd"] == "pass"
