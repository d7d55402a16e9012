from __future__ import annotations

import inspect
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

import numpy as np
import pytest
from PIL import Image

from pahi_rt import FakeRuntime, Pipeline, Tokenizer, open_bundle
from pahi_rt.errors import BundleError, NoiseError, PromptError, RequestError, RuntimeUnavailable

PROMPTS = ["a red apple", "a grinning cat", "two dog"]


class CountingRuntime(FakeRuntime):
    """Remembers the size of every batch, and every strength."""

    def __init__(self) -> None:
        super().__init__(32, 32)
        self.batches: list[int] = []
        self.strengths: list[float] = []

    def run(self, input_ids: np.ndarray, noise: np.ndarray, prior_strength: np.ndarray) -> np.ndarray:
        self.batches.append(len(noise))
        self.strengths += prior_strength.tolist()
        return super().run(input_ids, noise, prior_strength)


@pytest.fixture(scope="module")
def pipeline(contract: Path) -> Pipeline:
    return Pipeline.load(contract)


@pytest.fixture
def counting(contract: Path) -> Pipeline:
    return Pipeline(open_bundle(contract), CountingRuntime())


def same(a: Image.Image, b: Image.Image) -> bool:
    return a.tobytes() == b.tobytes()


def test_one_prompt_gives_one_picture(pipeline: Pipeline) -> None:
    image = pipeline("a red apple", seed=1)
    assert isinstance(image, Image.Image)
    assert (image.size, image.mode) == ((32, 32), "RGB")


def test_several_prompts_or_a_count_give_a_list(pipeline: Pipeline) -> None:
    assert len(pipeline(PROMPTS)) == 3
    assert len(pipeline(["a red apple"])) == 1
    assert len(pipeline(tuple(PROMPTS), count=2)) == 6
    assert len(pipeline("a red apple", count=1)) == 1
    assert same(pipeline("a red apple", count=4, seed=5)[2], pipeline("a red apple", seed=7))


def test_prompt_and_seed_decide_the_picture(pipeline: Pipeline, contract: Path) -> None:
    image = pipeline("a red apple", seed=1)
    assert same(image, pipeline("a red apple", seed=1))
    assert same(image, Pipeline.load(str(contract))("a red apple", seed=1))
    assert not same(image, pipeline("a red apple", seed=2))
    assert not same(image, pipeline("a green apple", seed=1))
    assert same(pipeline("a red apple"), pipeline("a red apple", seed=0))


def test_results_come_prompt_by_prompt(pipeline: Pipeline) -> None:
    results = list(pipeline.stream(PROMPTS, seed=7, count=2))
    assert [(r.prompt, r.seed) for r in results] == [(prompt, seed) for prompt in PROMPTS for seed in (7, 8)]
    assert all(r.tokenize_ms > 0 and r.run_ms > 0 for r in results)
    assert not any(r.truncated for r in results)


@pytest.mark.parametrize("batch_size", [2, 4, 8, 100])
def test_batches_change_nothing(contract: Path, pipeline: Pipeline, batch_size: int) -> None:
    batched = Pipeline.load(contract, batch_size=batch_size)
    alone = list(pipeline.stream(PROMPTS, seed=3, count=3))
    together = list(batched.stream(PROMPTS, seed=3, count=3))
    assert [(r.prompt, r.seed) for r in alone] == [(r.prompt, r.seed) for r in together]
    for a, b in zip(alone, together, strict=True):
        difference = np.asarray(a.image, np.int16) - np.asarray(b.image, np.int16)
        assert abs(difference).max() <= 1
    backwards = list(batched.stream(PROMPTS[::-1], seed=3, count=3))
    by_request = {(r.prompt, r.seed): r.image for r in backwards}
    assert all(same(by_request[r.prompt, r.seed], r.image) for r in together)


def test_batches_may_span_prompts_and_the_last_may_be_smaller(contract: Path) -> None:
    runtime = CountingRuntime()
    results = list(Pipeline(open_bundle(contract), runtime, batch_size=4).stream(PROMPTS, count=2))
    assert runtime.batches == [4, 2]
    assert len({r.image.tobytes() for r in results}) == 6


def test_a_stream_is_lazy(counting: Pipeline) -> None:
    stream = counting.stream(PROMPTS, count=10**12)
    assert counting.runtime.batches == []  # type: ignore[attr-defined]
    assert next(stream).seed == 0
    assert next(stream).seed == 1
    assert counting.runtime.batches == [1, 1]  # type: ignore[attr-defined]


def test_a_long_prompt_is_cut_and_said_so(pipeline: Pipeline) -> None:
    (result,) = pipeline.stream(["cat " * 2500])
    assert result.truncated
    assert same(result.image, pipeline("cat " * 22))


def test_steps_choose_the_graph(contract_with_priors: Path) -> None:
    one, two = (Pipeline.load(contract_with_priors, steps=steps) for steps in (1, 2))
    assert not same(two("a cat"), one("a cat"))
    assert same(two("a cat", prior_strength=0), one("a cat", prior_strength=0))
    assert two.steps == 2


def test_the_prior_chooses_the_graph(contract_with_priors: Path, pipeline: Pipeline) -> None:
    by_name = {name: Pipeline.load(contract_with_priors, prior=name) for name in ("hi", "pahi", "gaussian")}
    assert {name: loaded.prior for name, loaded in by_name.items()} == {name: name for name in by_name}
    default = Pipeline.load(contract_with_priors)
    assert default.prior == "pahi"
    assert same(default("a cat"), by_name["pahi"]("a cat"))
    assert not same(default("a cat"), by_name["hi"]("a cat"))
    for plain in (by_name["gaussian"]("a cat"), by_name["hi"]("a cat", prior_strength=0)):
        assert same(plain, pipeline("a cat"))


def test_strength_moves_the_picture(contract_with_priors: Path) -> None:
    prior = Pipeline.load(contract_with_priors, prior="hi")
    none, half, full = (np.asarray(prior("a cat", prior_strength=w), np.float32) for w in (0, 0.5, 1))
    assert np.abs(half - none).mean() < np.abs(full - none).mean()
    assert np.array_equal(full, np.asarray(prior("a cat")))


def test_the_runtime_gets_the_strength(contract: Path, contract_with_priors: Path) -> None:
    for folder, prior, given, expected in (
        (contract, None, None, 0),
        (contract_with_priors, "gaussian", None, 0),
        (contract_with_priors, "hi", None, 1),
        (contract_with_priors, None, 0.25, 0.25),
    ):
        runtime = CountingRuntime()
        Pipeline(open_bundle(folder), runtime, prior=prior)("a cat", prior_strength=given)
        assert runtime.strengths == [expected]


def test_a_prior_that_the_bundle_lacks(contract: Path) -> None:
    with pytest.raises(BundleError, match="no prior 'hi'"):
        Pipeline.load(contract, prior="hi")
    with pytest.raises(BundleError, match="no prior 'hi'"):
        Pipeline(open_bundle(contract), FakeRuntime(32, 32), prior="hi")


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ({"prompts": []}, PromptError),
        ({"prompts": "cat"}, PromptError),
        ({"prompts": ["cat", ""]}, PromptError),
        ({"prompts": ["cat", "a\0b"]}, PromptError),
        ({"prompts": ["cat", "\udcff"]}, PromptError),
        ({"seed": -1}, NoiseError),
        ({"seed": 2**64}, NoiseError),
        ({"seed": 2**64 - 1, "count": 2}, NoiseError),
        ({"count": 0}, NoiseError),
        ({"prior_strength": float("nan")}, RequestError),
        ({"prior_strength": 1.01}, RequestError),
        ({"prior_strength": 0.5}, RequestError),  # the bundle has no prior
    ],
)
def test_everything_is_checked_before_the_first_picture(
    counting: Pipeline, arguments: dict[str, object], error: type[Exception]
) -> None:
    with pytest.raises(error):
        counting.stream(**({"prompts": ["cat"]} | arguments))  # type: ignore[arg-type]
    assert counting.runtime.batches == []  # type: ignore[attr-defined]


def test_a_call_checks_too(pipeline: Pipeline) -> None:
    with pytest.raises(PromptError):
        pipeline("")
    with pytest.raises(PromptError):
        pipeline([])
    with pytest.raises(NoiseError):
        pipeline("cat", count=0)


def test_another_noise_recipe_is_refused(edit: Callable[..., Path]) -> None:
    folder = edit(lambda data: data.update(noise_recipe="xorshift-2"))
    with pytest.raises(BundleError, match="xorshift-2"):
        Pipeline.load(folder)


def test_load_passes_on_what_it_is_asked_for(contract: Path) -> None:
    bundle = open_bundle(contract)
    assert Pipeline.load(bundle, threads=1).runtime.describe()["threads"] == 1
    with pytest.raises(RuntimeUnavailable, match="tpu"):
        Pipeline.load(bundle, runtime="tpu")
    with pytest.raises(BundleError, match="steps"):
        Pipeline.load(bundle, steps=9)
    with pytest.raises(ValueError, match="batch_size"):
        Pipeline.load(bundle, batch_size=0)


class NoMemory(FakeRuntime):
    def run(self, *given: object) -> NoReturn:
        raise MemoryError


def test_memory_that_runs_out(contract: Path) -> None:
    pipeline = Pipeline(open_bundle(contract), NoMemory(32, 32), batch_size=3)
    with pytest.raises(RuntimeUnavailable, match="not enough memory to draw 3 pictures at once") as caught:
        pipeline("cat", count=4)
    assert caught.value.fix.startswith("draw fewer at once")


def test_a_tokenizer_of_ones_own(contract: Path) -> None:
    bundle = open_bundle(contract)
    tokenizer = Tokenizer(contract / "tokenizer.json", 24, 0)
    assert Pipeline(bundle, FakeRuntime(8, 8), tokenizer).tokenizer is tokenizer


def test_the_default_bundle_is_emoji() -> None:
    assert inspect.signature(Pipeline.load).parameters["bundle"].default == "emoji"
