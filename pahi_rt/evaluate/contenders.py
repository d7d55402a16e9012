"""The rows of Table 1: contenders that draw pictures of the same prompts from the same noise.

    generator_field   a generator in PyTorch with one or several priors
    bundle_field      an exported bundle through its runtime, with its priors switched on and off

Besides the priors there are the baselines that need no training, and the best of several draws, which selects a picture
and not a noise, and costs as much as all of its draws.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from pahi_rt.bundle import Bundle
from pahi_rt.errors import BundleError
from pahi_rt.evaluate.baselines import Sampler, best_of_nats, gaussian, learned, untrained
from pahi_rt.models.conditioning import Conditioning
from pahi_rt.models.gaussians import LatentShape
from pahi_rt.models.generators import Generator
from pahi_rt.models.priors import Prior, check_fit
from pahi_rt.pipeline import Pipeline, run

BEST_OF = 4
"""Candidates per picture in the row "best of"."""


@dataclass(frozen=True)
class Contender:
    """One row: a way to draw pictures. Its functions take `encoded`, the result of `Field.encode` for B prompts."""

    name: str
    draw: Callable[[Any, Tensor], Tensor]
    """(encoded, standard Gaussian eps [B, C, h, w]) -> pictures [B, 3, H, W] in [0, 1]."""
    kl: Callable[[Any], Tensor]
    """encoded -> KL to the standard Gaussian [B] in nats; NaN where it is unknown."""
    candidates: int = 1
    """Pictures drawn for each one that counts, which is the one with the best score."""


@dataclass(frozen=True)
class Field:
    """Contenders of one generator, the standard Gaussian first."""

    encode: Callable[[Sequence[str]], Any]
    """B prompts -> what the contenders' functions need of them, such as embeddings."""
    latent_shape: LatentShape
    contenders: tuple[Contender, ...]
    device: torch.device
    """Device of eps and of the pictures."""
    steps: int
    """Sampling steps of a picture."""
    pictures: str
    """Type of the pictures before scoring, as numpy spells it: "float32", or "uint8" for a bundle, which rounds."""


def generator_field(
    generator: Generator, priors: Mapping[str, Prior], steps: int = 1, device: torch.device | str = "cpu"
) -> Field:
    """The standard Gaussian, `priors` by name, and the baselines, drawn by `generator` in `steps` steps on `device`.

    Raises ModelError if a prior does not fit the generator, or the generator does not support this number of steps.
    """
    generator.schedule(steps)
    for prior in priors.values():
        check_fit(prior, generator)
    generator.to(device)
    shape = generator.latent_shape
    trained = [learned(name, prior.to(device)) for name, prior in priors.items()]
    samplers = [gaussian(), *trained, *untrained(shape)]

    def encode(prompts: Sequence[str]) -> Conditioning:
        return generator.encode_prompt(generator.tokenize(prompts))

    rows = [_from_generator(generator, sampler, steps) for sampler in samplers]
    return Field(encode, shape, (*rows, best_of(rows[0])), torch.device(device), steps, "float32")


def bundle_field(bundle: Bundle, steps: int = 1) -> Field:
    """The bundle's graphs of `steps` steps: its priors at strength 1; the Gaussian and the baselines at strength 0.

    Raises BundleError for a bundle without a prior; BundleError and RuntimeUnavailable as `Pipeline.load` does.
    """
    if not bundle.priors:
        fix = "train one with `pahi-rt train` and evaluate that run, or export a bundle with a prior"
        what = f"bundle {bundle.manifest.name!r} has no prior to compare with the standard Gaussian"
        raise BundleError(what, fix=fix)
    pipelines = [Pipeline.load(bundle, steps=steps, prior=kind) for kind in bundle.priors]
    plain, shape = pipelines[0], bundle.manifest.image.latent_shape
    baselines = [_at_strength_0(plain, sampler) for sampler in (gaussian(), *untrained(shape))]
    trained = [_at_strength_1(pipeline) for pipeline in pipelines]

    def encode(prompts: Sequence[str]) -> Any:
        return plain.tokenizer.encode(prompts).input_ids

    rows = (baselines[0], *trained, *baselines[1:], best_of(baselines[0]))
    return Field(encode, shape, rows, torch.device("cpu"), steps, "uint8")


def best_of(plain: Contender, count: int = BEST_OF) -> Contender:
    """The best of `count` draws of `plain`, the standard Gaussian; none is the draw that it is compared with."""
    return replace(
        plain,
        name=f"best of {count} ({count}x cost)",
        kl=lambda encoded: plain.kl(encoded) + best_of_nats(count),
        candidates=count,
    )


def _from_generator(generator: Generator, sampler: Sampler, steps: int) -> Contender:
    def draw(conditioning: Conditioning, eps: Tensor) -> Tensor:
        return generator.draw(conditioning, sampler.sample(conditioning.pooled, eps), steps)

    return Contender(sampler.name, draw, lambda conditioning: sampler.kl(conditioning.pooled))


def _at_strength_1(pipeline: Pipeline) -> Contender:
    def draw(input_ids: Any, eps: Tensor) -> Tensor:
        return _run_graph(pipeline, input_ids, eps, 1.0)

    def unknown_kl(input_ids: Any) -> Tensor:
        # mu and sigma stay inside the graph.
        return torch.full((len(input_ids),), torch.nan)

    return Contender(pipeline.prior.upper(), draw, unknown_kl)


def _at_strength_0(pipeline: Pipeline, sampler: Sampler) -> Contender:
    def draw(input_ids: Any, eps: Tensor) -> Tensor:
        return _run_graph(pipeline, input_ids, sampler.sample(_no_embeddings(input_ids), eps), 0.0)

    return Contender(sampler.name, draw, lambda input_ids: sampler.kl(_no_embeddings(input_ids)))


def _no_embeddings(input_ids: Any) -> Tensor:
    """Embeddings [B, 0]: the real ones stay inside the graph, and these samplers do not read any."""
    return torch.empty(len(input_ids), 0)


def _run_graph(pipeline: Pipeline, input_ids: Any, noise: Tensor, prior_strength: float) -> Tensor:
    pictures = run(pipeline.runtime, input_ids, noise.numpy(), prior_strength)
    return torch.from_numpy(pictures).permute(0, 3, 1, 2) / 255
