"""Initialises a prior: random weights, standardised features, and pretraining by eq. (10)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict

import torch
from torch import Tensor

from pahi_rt.errors import RecipeError
from pahi_rt.models.generators import Generator
from pahi_rt.models.priors import HI, PAHI, PRIORS, Prior, check_embeddings
from pahi_rt.train.batches import PRETRAINING, WEIGHTS, seeded
from pahi_rt.train.frozen import Models, Timed
from pahi_rt.train.pretraining import pretrain
from pahi_rt.train.prompts import Split
from pahi_rt.train.recipe import Recipe

_PROMPTS = 64
"""Prompts encoded at once."""

Pooled = tuple[Tensor, Tensor]
"""Embeddings [N, P] of the training prompts, and of the validation prompts, on the CPU."""


def build_prior(kind: str, recipe: Recipe, generator: Generator) -> Prior:
    """Build HI or PAHI for `generator`, with random weights from the recipe's seed.

    Raises RecipeError for an unknown kind, and ModelError for settings that do not fit the generator.
    """
    if kind not in PRIORS:
        raise RecipeError(f"there is no prior {kind!r}", fix=f"use {' or '.join(PRIORS)}")
    settings, shape = recipe.prior, generator.latent_shape
    options = {"sigma_bound": settings.sigma_bound, "low_frequency": settings.low_frequency}
    if kind == HI.kind:
        return HI(shape, **options)  # type: ignore[arg-type]
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.set_state(seeded(recipe.optimisation.seed, WEIGHTS).get_state())
        return PAHI(generator.pooled_width, shape, settings.hidden, init=settings.init, **options)  # type: ignore[arg-type]


def fit_prior(prior: Prior, recipe: Recipe, models: Models, split: Split, stage: Timed) -> Pooled | None:
    """Standardise PAHI's features in place, if the recipe says so.

    Returns the pooled embeddings of the training and of the validation prompts, [N, P] each; None if the recipe does
    not need them. Raises ModelError for embeddings that are not finite or, for standardising, all equal.
    """
    settings = recipe.prior
    if not isinstance(prior, PAHI) or not (settings.standardise or settings.init == "pretrain"):
        return None
    with stage("read prompts"):
        pooled = encode_pooled(models, split.train), encode_pooled(models, split.validation)
    for part in pooled:
        check_embeddings(prior, part)
    if settings.standardise:
        prior.fit_features(pooled[0])
    return pooled


def pretrain_prior(prior: Prior, recipe: Recipe, pooled: Pooled | None, stage: Timed) -> dict[str, float]:
    """Pretrain PAHI in place by eq. (10), if the recipe says so, on `pooled` from `fit_prior`.

    Returns the report of `pretrain`: KL and error on the training and validation prompts. Empty without pretraining.
    """
    if not isinstance(prior, PAHI) or pooled is None or recipe.prior.init != "pretrain":
        return {}
    rng = seeded(recipe.optimisation.seed, PRETRAINING)
    with stage("pretrain"):
        return pretrain(prior, *pooled, rng=rng, **asdict(recipe.pretraining))


def encode_pooled(models: Models, prompts: Sequence[str]) -> Tensor:
    """N prompts -> their pooled embeddings [N, P], on the CPU: those of a million prompts take gigabytes."""
    parts = [prompts[start : start + _PROMPTS] for start in range(0, len(prompts), _PROMPTS)]
    return torch.cat([models.encode(part).pooled.cpu() for part in parts])
