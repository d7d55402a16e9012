"""The best of several pictures, chosen by the embedded model's own scorers."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from pahi_rt import FakeRuntime, Judge, Pipeline, open_bundle
from pahi_rt.errors import BundleError, PromptError, RequestError
from pahi_rt.judge import check_candidates, rank

PROMPTS = ("a red apple", "a grinning cat")


@pytest.fixture(scope="module")
def judge() -> Judge:
    return Judge.load("emoji")


@pytest.fixture(scope="module")
def pipeline() -> Pipeline:
    return Pipeline.load("emoji")


@pytest.mark.parametrize("name", ["emoji-a", "emoji-b"])
def test_a_picture_fits_its_own_prompt_best(pipeline: Pipeline, name: str) -> None:
    judge = Judge.load("emoji", name)
    pictures = pipeline(PROMPTS)
    own, other = judge.score(pictures, PROMPTS), judge.score(pictures, PROMPTS[::-1])
    assert judge.name == name
    assert all(right > wrong for right, wrong in zip(own, other, strict=True))


def test_a_score_does_not_depend_on_the_others(pipeline: Pipeline, judge: Judge) -> None:
    pictures = pipeline("a red apple", count=3)
    together = judge.score(pictures, ["a red apple"] * 3)
    assert together == [judge.score([picture], ["a red apple"])[0] for picture in pictures]
    assert judge.score([], []) == []


def test_candidates_are_the_seeds_that_a_count_draws(pipeline: Pipeline, judge: Judge) -> None:
    drawn = list(pipeline.stream(PROMPTS, seed=20, count=4))
    chosen = list(pipeline.stream(PROMPTS, seed=20, candidates=4, keep=2))
    assert [one.prompt for one in chosen] == [PROMPTS[0]] * 2 + [PROMPTS[1]] * 2
    for index, prompt in enumerate(PROMPTS):
        group, kept = drawn[4 * index : 4 * index + 4], chosen[2 * index : 2 * index + 2]
        scores = judge.score([one.image for one in group], [prompt] * 4)
        best = sorted(range(4), key=lambda number: -scores[number])[:2]
        assert [one.seed for one in kept] == [20 + number for number in best]
        assert [one.score for one in kept] == [scores[number] for number in best]
        assert [one.image.tobytes() for one in kept] == [group[number].image.tobytes() for number in best]


def test_a_call_gives_one_picture_or_a_list(pipeline: Pipeline) -> None:
    best = pipeline("a red apple", candidates=3)
    assert isinstance(best, Image.Image)
    assert [one.tobytes() for one in pipeline("a red apple", candidates=3, keep=1)] == [best.tobytes()]
    assert len(pipeline(PROMPTS, candidates=2)) == 2


def test_another_scorer_is_chosen_by_name() -> None:
    pipeline = Pipeline(open_bundle("emoji"), FakeRuntime(128, 128), scorer="emoji-b")
    assert pipeline.judge.name == "emoji-b"
    (result,) = pipeline.stream(["a red apple"], candidates=2)
    assert result.score == pipeline.judge.score([result.image], ["a red apple"])[0]


def test_a_bundle_without_scorers_says_so(contract: Path) -> None:
    pipeline = Pipeline(open_bundle(contract), FakeRuntime(32, 32))
    with pytest.raises(BundleError, match="has no scorer") as caught:
        pipeline("a red apple", candidates=2)
    assert "--scorer" in caught.value.fix
    with pytest.raises(BundleError, match="no scorer 'emoji-c'") as caught:
        Judge.load("emoji", "emoji-c")
    assert "emoji-a or emoji-b" in caught.value.fix


@pytest.mark.parametrize("picture", [Image.new("RGB", (64, 128)), Image.new("L", (128, 128))])
def test_pictures_that_the_bundle_does_not_draw_are_refused(judge: Judge, picture: Image.Image) -> None:
    with pytest.raises(RequestError, match="takes RGB pictures of 128x128"):
        judge.score([picture], ["a red apple"])


def test_each_picture_has_a_prompt(judge: Judge) -> None:
    with pytest.raises(RequestError, match="1 prompts for 0 pictures"):
        judge.score([], ["a red apple"])
    with pytest.raises(PromptError):
        judge.score([Image.new("RGB", (128, 128))], [" "])


@pytest.mark.parametrize(
    ("count", "candidates", "keep"), [(1, None, 1), (1, 2, 3), (2, 4, None), (1, 0, None), (1, True, None), (1, 4, 0)]
)
def test_numbers_that_do_not_fit_together_are_refused(count: int, candidates: int | None, keep: int | None) -> None:
    with pytest.raises(RequestError) as caught:
        check_candidates(count, candidates, keep)
    assert caught.value.fix


def test_numbers_that_fit() -> None:
    assert (check_candidates(3, None, None), check_candidates(1, 8, None), check_candidates(1, 8, 8)) == (3, 1, 8)


def test_of_equal_scores_the_earlier_is_better() -> None:
    assert rank([1.0, 3.0, 3.0, 2.0], 3) == [1, 2, 3]
