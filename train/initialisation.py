"""Where a prior starts: its first weights, the scale of what it reads, and eq. (10)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict

import torch
from torch import Tensor

from pahi_rt.errors import PahiError
from pahi_rt.train.batches import PRETRAINING, WEIGHTS, seeded
from pahi_rt.train.generators import Generator
from pahi_rt.train.models import Models, Timed
from pahi_rt.train.pretraining import pretrain
from pahi_rt.train.priors import HI, PAHI, PRIORS, Prior
from pahi_rt.train.prompts import Split
from pahi_rt.train.recipe import Recipe

_PROMPTS = 64
"""Encoded at once."""


def build_prior(kind: str, recipe: Recipe, generator: Generator) -> Prior:
    """HI or PAHI for `generator`; its random weights follow from the recipe's seed. Raises PahiError for settings."""
    if kind not in PRIORS:
        raise PahiError(f"there is no prior {kind!r}", fix=f"use {' or '.join(PRIORS)}")
    settings, shape = recipe.prior, generator.latent_shape
    options = {"sigma_bound": settings.sigma_bound, "low_frequency": settings.low_frequency}
    if kind == HI.kind:
        return HI(shape, **options)  # type: ignore[arg-type]
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.set_state(seeded(recipe.optimisation.seed, WEIGHTS).get_state())
        return PAHI(generator.pooled_width, shape, settings.hidden, init=settings.init, **options)  # type: ignore[arg-type]


def prepare_prior(prior: Prior, recipe: Recipe, models: Models, split: Split, stage: Timed) -> dict[str, float]:
    """Standardise what PAHI reads and pretrain it by eq. (10), as the recipe says, in place.

    What pretraining reports, none if there is none: KL and error on the training and on the validation prompts.
    """
    wants_features, wants_pretraining = recipe.prior.standardise, recipe.prior.init == "pretrain"
    if not isinstance(prior, PAHI) or not (wants_features or wants_pretraining):
        return {}
    with stage("read prompts"):
        train, held_out = read_pooled(models, split.train), read_pooled(models, split.validation)
    if wants_features:
        prior.fit_features(train)
    if not wants_pretraining:
        return {}
    generator = seeded(recipe.optimisation.seed, PRETRAINING)
    with stage("pretrain"):
        return pretrain(prior, train, held_out, generator=generator, **asdict(recipe.pretraining))


def read_pooled(models: Models, prompts: Sequence[str]) -> Tensor:
    """N prompts -> their pooled embeddings [N, P]."""
    parts = [prompts[start : start + _PROMPTS] for start in range(0, len(prompts), _PROMPTS)]
    return torch.cat([models.read(part).pooled for part in parts])
