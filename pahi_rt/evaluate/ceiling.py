"""How much a noise prior can gain with a generator and its scorers, before any prior is trained.

Take the score s(c, x) of prompt c's picture from noise x ~ N(0, I), in standard deviations between pictures of a
prompt. A prior with sigma = 1 draws from x + mu(c). By Cameron and Martin its mean score is

    E s(c, x + mu) = E s(c, x) exp(mu . x - |mu|^2 / 2) = E s(c, x) + a(c) . mu + O(|mu|^2),    a(c) = E s(c, x) x

(by Stein's identity a is E ds/dx too), for KL(N(mu, I), N(0, I)) = |mu|^2 / 2 nats. So with K nats on average over
prompts, |mu|^2 = 2 K, by Cauchy and Schwarz

    PAHI, a mean for each prompt    E a . mu <= sqrt(2 K E|a|^2)     equal for mu proportional to a(c)
    HI, one mean for all            (E a) . mu <= sqrt(2 K |E a|^2)  equal for mu proportional to E a

a are also the coefficients of the regression of s on x, because E x x^T = I. So |a|^2 is the share of the variance that
is linear in x: it lies between 0 and 1, and no mean gains more than sqrt(2 K) to first order. Sigma has a share of its
own: with standard deviations 1 + d the gain is sqrt 2 b . d for KL = |d|^2, b = E s (x^2 - 1) / sqrt 2, so that both
together gain at most sqrt(2 K (|a|^2 + |b|^2)). The orders that are left out bend the gain: scores that saturate, as of
a picture that switches from one style to another, gain less than the line says, and convex ones more.

Estimates. Noise has more values than there are pictures of a prompt, so the length of the estimated a is nearly all
noise: E|a'|^2 = |a|^2 + E|a' - a|^2. Therefore only products of different noises are averaged (a U-statistic), and for
E a only those of prompts of different meaning; both have no bias. Their standard errors are about v sqrt(2 D / N) / m
and v sqrt(2 D) / (N m) for D values of noise, N prompts and m pairs with an odd share v.
"""

from __future__ import annotations

import math
import platform
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from pahi_rt.comparison import CONFIDENCE
from pahi_rt.errors import PahiError
from pahi_rt.evaluate.ceiling_report import Agreement, CeilingReport, Estimate, Pair, ScorerCeiling
from pahi_rt.evaluate.entries import distinct, held_out_groups, load_test, training_specs
from pahi_rt.evaluate.measurements import Track
from pahi_rt.evaluate.moments import Moments, Settings, observe
from pahi_rt.evaluate.regression import fit_one, fit_prompts
from pahi_rt.evaluate.resampling import Resampling, estimate, resample
from pahi_rt.evaluate.table1 import number, silent
from pahi_rt.machine import cpu_name
from pahi_rt.models.memory import Batches
from pahi_rt.terminal import command
from pahi_rt.train.frozen import Models, Timed, load_models
from pahi_rt.train.recipe import Recipe, load_recipe
from pahi_rt.train.run import open_run
from pahi_rt.train.watch import Silent, Watch, timed

USUAL = Settings()
PROMPTS = 16
"""Prompts of each group, unless the caller says how many. More noises of few prompts tell more than few of many."""


def measure_ceiling(
    target: str | Path,
    *,
    pictures: int | None = None,
    limit: int | None = None,
    scorers: Sequence[str] = (),
    watch: Watch | None = None,
    track: Track = silent,
) -> CeilingReport:
    """The ceiling for a recipe's generator and scorers, on its test prompts.

    Args:
        target: a recipe's name or file, or the folder of a run, whose recipe counts.
        pictures: of each prompt, in pairs; by default 192.
        limit: most prompts of each group; by default PROMPTS.
        scorers: specs of further scorers.
        watch: receives progress events of the loading.
        track: wraps the prompts, for a progress bar.

    Raises PahiError for numbers out of range, and as the loaders do; all before the first picture is drawn.
    """
    settings = USUAL if pictures is None else Settings(pairs=pictures // 2)
    started = time.monotonic()
    if limit is not None and limit < 1:
        raise PahiError(f"{limit} prompts cannot be evaluated", fix="use --limit 1 or more")
    recipe = open_run(Path(target)).recipe if Path(target).is_dir() else load_recipe(target)
    stage = partial(timed, watch or Silent())
    split = load_test(recipe, stage)
    prompts = [prompt for group in held_out_groups(split).values() for prompt in group[: limit or PROMPTS]]
    models = _load(recipe, [*training_specs(recipe), *recipe.scorers.evaluation, *scorers], stage)
    meanings = number(split.meanings.get(prompt, prompt) for prompt in prompts)
    results, agreements = estimate_ceiling(models, prompts, meanings, settings, track)
    return CeilingReport(
        command=_command(target, settings, limit or PROMPTS, scorers),
        target=str(target),
        generator=recipe.generator,
        decoder=recipe.decoder,
        variant=recipe.variant,
        steps=recipe.steps,
        prompts=len(prompts),
        meanings=len(meanings.unique()),
        pictures=2 * settings.pairs,
        gradients=settings.gradients,
        noise_values=math.prod(models.generator.latent_shape),
        training_prompts=len(split.train),
        training_samples=recipe.optimisation.max_steps * recipe.optimisation.batch,
        scorers=results,
        agreements=agreements,
        seconds=round(time.monotonic() - started, 1),
        hardware=_describe(models.device),
    )


def estimate_ceiling(
    models: Models, prompts: Sequence[str], meanings: Tensor, settings: Settings = USUAL, track: Track = silent
) -> tuple[dict[str, ScorerCeiling], tuple[Agreement, ...]]:
    """Draw pictures of the prompts, score them by all of the models' scorers, and estimate the ceiling of each.

    `meanings`, int64 [N], has the same number for prompts that mean the same. Raises ScorerError for scores that are
    not finite, and PahiError for scores that do not depend on the noise.
    """
    specs = list(models.scorers)
    look = partial(observe, models, specs, settings=settings, batches=Batches(settings.batch // 2, models.device))
    rows = [look(prompt) for (prompt,) in track([[prompt] for prompt in prompts], "scores")]
    for place, spec in enumerate(specs):
        if not sum(float(row.covariance[place, place]) for row in rows) > 0:
            what = f"{spec} scores all pictures of a prompt alike, so there is nothing for a prior to gain"
            raise PahiError(what, fix="name other scorers in the recipe")
    draws = resample(meanings)
    results = {spec: _summarise(rows, place, draws, models.scorers[spec].unit) for place, spec in enumerate(specs)}
    pairs = [(of, under) for of in range(len(specs)) for under in range(len(specs)) if of != under]
    return results, tuple(_agree(rows, specs, of, under, draws) for of, under in pairs)


def _command(target: str | Path, settings: Settings, limit: int, scorers: Sequence[str]) -> str:
    """What to type for the same report."""
    numbers = ("--seeds", 2 * settings.pairs, "--limit", limit)
    more = [word for spec in scorers for word in ("--scorer", spec)]
    return command("pahi-rt", "evaluate", "--ceiling", target, *numbers, *more)


def _load(recipe: Recipe, specs: Sequence[str], stage: Timed) -> Models:
    return load_models(
        recipe.generator,
        recipe.decoder,
        distinct(specs),
        variant=recipe.variant,
        steps=recipe.steps,
        device=torch.device("cuda" if torch.cuda.is_available() else "cpu"),
        checkpointing=recipe.optimisation.gradient_checkpointing,
        stage=stage,
    )


def _describe(device: torch.device) -> str:
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{cpu_name() or platform.machine()}, {torch.get_num_threads()} threads"


def _summarise(rows: Sequence[Moments], place: int, draws: Resampling, unit: str) -> ScorerCeiling:
    """The ceiling of the scorer with this place, from the moments of all prompts."""
    variance = draws.means(_stack(row.covariance[place, place] for row in rows))
    a, b = (_stack(getattr(row, name)[place] for row in rows) for name in ("linear", "spread"))
    odd = draws.means(_stack(row.odd[place] for row in rows))
    linear = draws.means(_stack(row.linear_square[place, place] for row in rows))
    shared = draws.products(a, a)
    slopes, kinds = _slopes(rows, place), _kinds(rows, place)
    return ScorerCeiling(
        unit=unit,
        seed_std=float(variance[0].sqrt()),
        odd_share=estimate(odd / variance),
        linear_share=estimate(linear / variance),
        linear_share_by_gradients=None if slopes is None else estimate(draws.means(_square(slopes)) / variance),
        shared_share=estimate(shared / variance),
        spread_share=estimate(draws.means(_stack(row.spread_square[place, place] for row in rows)) / variance),
        shared_spread_share=estimate(draws.products(b, b) / variance),
        ceiling=Pair(*(estimate(at_one_nat(torch.minimum(share, odd) / variance)) for share in (linear, shared))),
        reached=_reach(rows, place, kinds.get("clipped", kinds["score function"]).mean, draws, variance),
        samples={kind: _count(draws, gradient, a, linear, shared) for kind, gradient in kinds.items()},
    )


def at_one_nat(share: Tensor) -> Tensor:
    """Share of the variance -> effect at one nat, in standard deviations; 0 for an estimate below 0."""
    return (2 * share.clamp_min(0)).sqrt()


def _reach(rows: Sequence[Moments], place: int, target: Tensor, draws: Resampling, variance: Tensor) -> Pair:
    """The effect at one nat of means that are fitted to `target` [N, D], the mean gradients of other prompts."""
    halves = _stack(row.halves[:, place] for row in rows)
    embeddings = _stack(row.pooled for row in rows)
    fits = fit_prompts(embeddings, target, halves, draws.members), fit_one(target, halves, draws.members)
    return Pair(*(None if gains is None else estimate(_effect(draws, gains) / variance.sqrt()) for gains in fits))


def _effect(draws: Resampling, gains: Sequence[tuple[Tensor, Tensor]]) -> Tensor:
    """(mu . a [N], |mu|^2 [N]) of each fit -> mean gain at one nat [1 + R]: each mu is scaled to that."""
    effects = [math.sqrt(2) * draws.means(gain) / draws.means(square).sqrt() for gain, square in gains]
    return torch.stack(effects).mean(0)


def _agree(rows: Sequence[Moments], specs: Sequence[str], of: int, under: int, draws: Resampling) -> Agreement:
    def mean(name: str, one: int, other: int) -> Tensor:
        return draws.means(_stack(getattr(row, name)[one, other] for row in rows))

    variances = [mean("covariance", place, place) for place in (of, under)]
    own, theirs, common = (mean("linear_square", *pair) for pair in ((of, of), (under, under), (of, under)))
    return Agreement(
        of=specs[of],
        under=specs[under],
        score_correlation=estimate(mean("covariance", of, under) / (variances[0] * variances[1]).sqrt()),
        linear_cosine=estimate(common / (own * theirs).sqrt()),
        ceiling_under=estimate(math.sqrt(2) * common / (own * variances[1]).sqrt()),
    )


@dataclass(frozen=True)
class Gradient:
    """One kind of gradient g for N prompts."""

    mean: Tensor
    """[N, D]."""
    along: Tensor
    """[N]: E g . a, without bias."""
    square: Tensor
    """[N]: |E g|^2, without bias."""
    length: Tensor
    """[N]: E|g|^2."""


def _kinds(rows: Sequence[Moments], place: int) -> dict[str, Gradient]:
    """The kinds of gradients that can be compared."""
    a = _stack(row.linear[place] for row in rows)
    own = _stack(row.linear_square[place, place] for row in rows)
    kinds = {"score function": Gradient(a, own, own, _stack(row.noise[place] for row in rows))}
    slopes = _slopes(rows, place)
    if slopes is not None:
        lengths = slopes.norm(dim=-1, keepdim=True)
        # A gradient of 0 stays 0.
        clipped = slopes * (lengths.median() / lengths.clamp_min(torch.finfo(lengths.dtype).tiny)).clamp_max(1)
        for kind, g in (("pathwise", slopes), ("clipped", clipped)):
            mean = g.mean(1)
            kinds[kind] = Gradient(mean, (mean * a).sum(1), _square(g), g.square().sum(2).mean(1))
    return kinds


def _count(draws: Resampling, gradient: Gradient, a: Tensor, linear: Tensor, shared: Tensor) -> Pair:
    """Samples until the signal of a gradient is as large as its noise.

    The signal is the part of its mean along a, because a clipped mean may point elsewhere: (E g . a)^2 / |a|^2. The
    noise is the variance of one sample. For HI both are those of all prompts together, where the noise also has what
    the prompts' means differ by.
    """
    length = draws.means(gradient.length)
    own, common = draws.means(gradient.square), draws.products(gradient.mean, gradient.mean)
    return Pair(
        _seen(_ratio(length - own, draws.means(gradient.along), linear)),
        _seen(_ratio(length - common, draws.products(gradient.mean, a), shared)),
    )


def _seen(samples: Tensor) -> Estimate | None:
    """Numbers of samples [1 + R] -> their estimate; None if the interval has no end, so that there may be no signal."""
    return estimate(samples) if samples.isinf().double().mean() < (1 - CONFIDENCE) / 2 else None


def _ratio(noise: Tensor, along: Tensor, square: Tensor) -> Tensor:
    """Noise by signal; infinite where no signal is seen."""
    return torch.where((along > 0) & (square > 0), noise.clamp_min(0) * square / along.square(), torch.inf)


def _slopes(rows: Sequence[Moments], place: int) -> Tensor | None:
    """The gradients of one scorer [N, G, D]; None if there are none."""
    parts = [row.gradients[place] for row in rows if row.gradients is not None]
    return torch.stack(parts) if len(parts) == len(rows) else None


def _square(samples: Tensor) -> Tensor:
    """[N, G, D] -> unbiased |E g|^2 [N], from products of different samples."""
    count = samples.shape[1]
    return (samples.sum(1).square().sum(1) - samples.square().sum((1, 2))) / (count * (count - 1))


def _stack(values: Iterable[Tensor]) -> Tensor:
    return torch.stack(list(values))
