"""Prompt to picture: tokenize -> draw_noise -> run -> to_images, and the Pipeline that calls them in turn."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import overload

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pahi_rt.assets import DEFAULT
from pahi_rt.bundle import Bundle, open_bundle
from pahi_rt.choice import Chosen, choose
from pahi_rt.errors import BundleError, RuntimeUnavailable
from pahi_rt.judge import Judge, check_candidates, rank
from pahi_rt.noise import NOISE_RECIPE, draw_noise, request_seeds
from pahi_rt.prior import choose_prior, choose_strength
from pahi_rt.runtimes import Runtime, open_chosen
from pahi_rt.tokenizer import Encoded, Tokenizer


@dataclass(frozen=True)
class Result:
    """One picture and how it came about."""

    image: Image.Image
    prompt: str
    seed: int
    truncated: bool
    """Whether the prompt was cut, because it is longer than what the model reads."""
    tokenize_ms: float
    """This prompt's share of the time to tokenize all prompts."""
    run_ms: float
    """This picture's share of its batch: noise, graph and conversion to an image. Of a picture that was chosen: its
    share of the time for all candidates and their scores."""
    score: float | None = None
    """What the judge gave a picture that was chosen, in the judge's unit; None for any other."""


class Pipeline:
    """A bundle that is loaded once and ready to draw.

        pipeline = Pipeline.load("emoji")
        pipeline("a red apple", seed=1)                    # a PIL image
        pipeline(["a red apple", "a grinning cat"])        # a list of them
        pipeline("a red apple", count=4)                   # seeds 0, 1, 2, 3
        pipeline("a red apple", prior_strength=0.5)        # half of the learned prior, where the bundle has one
        pipeline("a red apple", candidates=8)              # the best of seeds 0 to 7, by the bundle's scorer

    The same prompt, seed and bundle give the same picture. `batch_size` pictures go through the graph at once. On a
    CPU one at a time is as fast as many, and repeats to the bit. `prior` is the one that the runtime was loaded for:
    "hi", "pahi" or "gaussian". None is PAHI if the bundle has it, else HI, else the standard Gaussian.
    """

    def __init__(
        self,
        bundle: Bundle,
        runtime: Runtime,
        tokenizer: Tokenizer | None = None,
        *,
        steps: int = 1,
        batch_size: int = 1,
        prior: str | None = None,
        scorer: str | None = None,
        threads: int | None = None,
    ) -> None:
        """`scorer` is the bundle's that chooses among candidates, by default its first; `threads` are for it."""
        check_noise_recipe(bundle)
        if batch_size < 1:
            raise ValueError(f"batch_size must be at least 1, not {batch_size}")
        self.bundle = bundle
        self.runtime = runtime
        self.tokenizer = tokenizer or load_tokenizer(bundle)
        self.steps = steps
        self.batch_size = batch_size
        self.prior = choose_prior(bundle, prior)  # checks what the caller loaded; what `choose` chose stays
        self._scorer, self._threads = scorer, threads

    @classmethod
    def load(
        cls,
        bundle: str | Path | Bundle = DEFAULT,
        *,
        steps: int = 1,
        runtime: str = "auto",
        threads: int | None = None,
        batch_size: int = 1,
        prior: str | None = None,
        precision: str | None = None,
        scorer: str | None = None,
    ) -> Pipeline:
        """Open a bundle (see `open_bundle`) and load its graph. Raises BundleError, RuntimeUnavailable."""
        opened = bundle if isinstance(bundle, Bundle) else open_bundle(bundle)
        chosen = choose(opened, steps=steps, runtime=runtime, threads=threads, prior=prior, precision=precision)
        return cls.open(chosen, batch_size=batch_size, scorer=scorer)

    @classmethod
    def open(cls, chosen: Chosen, *, batch_size: int = 1, scorer: str | None = None) -> Pipeline:
        """Load what `pahi_rt.choice.choose` has settled. Raises BundleError, RuntimeUnavailable."""
        check_noise_recipe(chosen.bundle)
        runtime, steps = open_chosen(chosen), chosen.graph.steps
        return cls(
            chosen.bundle,
            runtime,
            steps=steps,
            batch_size=batch_size,
            prior=chosen.prior,
            scorer=scorer,
            threads=chosen.threads,
        )

    @cached_property
    def judge(self) -> Judge:
        """The scorer that chooses among candidates, loaded when it is first needed.

        Raises BundleError if the bundle does not have it, RuntimeUnavailable.
        """
        return Judge.load(self.bundle, self._scorer, threads=self._threads)

    def stream(
        self,
        prompts: Sequence[str],
        *,
        seed: int = 0,
        count: int = 1,
        prior_strength: float | None = None,
        candidates: int | None = None,
        keep: int | None = None,
    ) -> Iterator[Result]:
        """Draw `count` pictures of each prompt, one after the other, from the seeds seed, seed + 1, ...

        With `candidates`, that many are drawn of each prompt instead, from seed on, and the `keep` (default: 1) that
        the judge scores highest come, the best first.

        Results come prompt by prompt, each as soon as its batch is done. `prior_strength` 1 applies all of the learned
        prior and is the default if there is one; 0 leaves the noise standard Gaussian. The call checks everything
        before the first picture. Raises RequestError (PromptError, NoiseError). While it draws, raises BundleError if
        the pictures are not what the manifest says, and RuntimeUnavailable if the runtime fails or memory runs out.
        """
        kept = check_candidates(count, candidates, keep)
        seeds = request_seeds(seed, count if candidates is None else candidates)
        strength = choose_strength(self.prior, prior_strength)
        encoded, tokenize_ms = tokenize(self.tokenizer, prompts)
        drawn = self._draw(list(prompts), encoded, seeds, strength, tokenize_ms)
        if candidates is None:
            return drawn
        return self._choose(drawn, self.judge, len(seeds), kept)

    @overload
    def __call__(  # type: ignore[overload-overlap]  # a str is a Sequence[str] too, and the first match is meant
        self, prompt: str, *, seed: int = 0, prior_strength: float | None = None, candidates: int | None = None
    ) -> Image.Image: ...

    @overload
    def __call__(
        self,
        prompt: str | Sequence[str],
        *,
        seed: int = 0,
        count: int = 1,
        prior_strength: float | None = None,
        candidates: int | None = None,
        keep: int | None = None,
    ) -> list[Image.Image]: ...

    def __call__(
        self,
        prompt: str | Sequence[str],
        *,
        seed: int = 0,
        count: int | None = None,
        prior_strength: float | None = None,
        candidates: int | None = None,
        keep: int | None = None,
    ) -> Image.Image | list[Image.Image]:
        """Draw a picture of a prompt; a list for several prompts or with `count` or `keep`. Arguments: see `stream`."""
        alone = isinstance(prompt, str)
        prompts = [prompt] if isinstance(prompt, str) else prompt
        how_many = 1 if count is None else count
        results = self.stream(
            prompts, seed=seed, count=how_many, prior_strength=prior_strength, candidates=candidates, keep=keep
        )
        images = [result.image for result in results]
        return images[0] if alone and count is None and keep is None else images

    def _choose(self, drawn: Iterator[Result], judge: Judge, candidates: int, keep: int) -> Iterator[Result]:
        """The best `keep` of each prompt's `candidates`, with their scores."""
        while group := list(islice(drawn, candidates)):
            started = time.perf_counter()
            scores = judge.score([one.image for one in group], [one.prompt for one in group])
            total_ms = sum(one.run_ms for one in group) + _milliseconds_since(started)
            for index in rank(scores, keep):
                yield replace(group[index], run_ms=total_ms / keep, score=scores[index])

    def _draw(
        self, prompts: list[str], encoded: Encoded, seeds: range, prior_strength: float, tokenize_ms: float
    ) -> Iterator[Result]:
        jobs = ((index, seed) for index in range(len(prompts)) for seed in seeds)
        while batch := list(islice(jobs, self.batch_size)):
            started = time.perf_counter()
            images = self._draw_batch(batch, encoded, prior_strength)
            run_ms = _milliseconds_since(started) / len(batch)
            for (index, seed), image in zip(batch, images, strict=True):
                yield Result(image, prompts[index], seed, encoded.truncated[index], tokenize_ms, run_ms)

    def _draw_batch(self, batch: list[tuple[int, int]], encoded: Encoded, prior_strength: float) -> list[Image.Image]:
        """Draw a picture for each pair of a prompt's index and a seed."""
        rows = encoded.input_ids[[index for index, _ in batch]]
        return self.draw(rows, [seed for _, seed in batch], [prior_strength] * len(batch))

    def draw(
        self, input_ids: NDArray[np.int64], seeds: Sequence[int], prior_strengths: Sequence[float]
    ) -> list[Image.Image]:
        """Draw one batch: row j of `input_ids` [B, T] from seeds[j] at prior_strengths[j].

        For programs that form batches themselves; `stream` checks prompts and strengths, this does not. Raises what
        `stream` raises while it draws.
        """
        try:
            noise = draw_noise(seeds, self.bundle.manifest.image.latent_shape)
            return to_images(run(self.runtime, input_ids, noise, prior_strengths))
        except MemoryError as error:
            what = f"there is not enough memory to draw {len(seeds)} pictures at once"
            raise RuntimeUnavailable(what, fix="draw fewer at once, or free memory") from error


def load_tokenizer(bundle: Bundle) -> Tokenizer:
    """Load the bundle's own tokenizer. Raises BundleError."""
    spec = bundle.manifest.tokenizer
    return Tokenizer(bundle.read(spec.file), spec.max_length, spec.pad_id)


def tokenize(tokenizer: Tokenizer, prompts: Sequence[str]) -> tuple[Encoded, float]:
    """Token ids of all prompts, and the milliseconds that each took. Raises PromptError."""
    started = time.perf_counter()
    encoded = tokenizer.encode(prompts)
    return encoded, _milliseconds_since(started) / len(prompts)


def run(
    runtime: Runtime,
    input_ids: NDArray[np.int64],
    noise: NDArray[np.float32],
    prior_strength: float | Sequence[float],
) -> NDArray[np.uint8]:
    """Run the graph: input_ids [B, T], noise [B, C, h, w], one strength or B of them -> pictures [B, H, W, 3]."""
    return runtime.run(input_ids, noise, np.full(len(noise), prior_strength, np.float32))


def to_images(pictures: NDArray[np.uint8]) -> list[Image.Image]:
    """Turn pictures [B, H, W, 3] into PIL images."""
    return [Image.fromarray(picture) for picture in pictures]


def check_noise_recipe(bundle: Bundle) -> None:
    """Raises BundleError if the bundle needs a noise recipe that this version does not have."""
    recipe = bundle.manifest.noise_recipe
    if recipe != NOISE_RECIPE:
        raise BundleError(
            f"bundle {bundle.manifest.name!r} needs the noise recipe {recipe!r}; this version has {NOISE_RECIPE!r}",
            fix="pip install --upgrade pahi-rt",
        )


def _milliseconds_since(started: float) -> float:
    return (time.perf_counter() - started) * 1000.0
