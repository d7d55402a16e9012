"""Table 1: how often a prior's pictures beat the standard Gaussian's, and what that win is worth.

    evaluate_targets(["runs/pahi"])   runs of `pahi-rt train`, or a bundle: pahi-rt evaluate RUN...|BUNDLE
    evaluate(name, field, ...)        anything that draws: measure -> a row for each contender and group of prompts

Wins are counted between pictures of independent noise, and of the same noise, where any tiny change that is the same
everywhere wins nearly always; a prior that knows one style only wins as well. So win rates come with an interval over
what prompts mean, what is left by a margin, the effect size, diversity, sharpness and KL; and the same numbers of
baselines that need no training.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from pahi_rt.errors import PahiError
from pahi_rt.evaluate.contenders import Contender, Field
from pahi_rt.evaluate.entries import Groups, enter
from pahi_rt.evaluate.measurements import Batch, Measurements, Settings, Track, measure
from pahi_rt.evaluate.picture_metrics import ClipFeatures, RandomFeatures, load_encoder
from pahi_rt.evaluate.report import Group, Ratio, Report, Row, ScorerNote
from pahi_rt.scorers import Scorer
from pahi_rt.scorers.statistics import bootstrap_interval, compare, ratio
from pahi_rt.train.watch import Silent, Watch, timed

ALL = "all prompts"
USUAL = Settings()


def silent(batches: Sequence[Batch], _: str) -> Iterable[Batch]:
    """No progress bar."""
    return batches


def evaluate_targets(
    targets: Sequence[str | Path],
    *,
    seeds: int = USUAL.seeds,
    limit: int | None = None,
    recipe: str | None = None,
    encoder: str | None = None,
    scorers: Sequence[str] = (),
    judge: str | None = None,
    watch: Watch | None = None,
    track: Track = silent,
) -> Report:
    """Table 1 of runs or a bundle on their recipe's test prompts, under every scorer that the recipe names, and more.

    Args:
        targets: run folders, whose recipes may differ in how a prior was trained only; or what `open_bundle` opens.
        limit: at most so many prompts of each group.
        recipe: for a bundle, the recipe that its prior was trained with; the one of its own name if left out. The
            test prompts must be the ones that training held out.
        encoder: folder or hub id of a CLIP to measure diversity in, which must have trained nothing here; without
            one, `RandomFeatures`.
        scorers: specs of further scorers to report, which neither trained the prior nor decided when to stop.
        judge: spec of the scorer that chooses the best of several pictures; the recipe's first for evaluation if left
            out. It is reported as well.

    Raises PahiError for a run without a prior yet, a bundle without one, prompts that changed since the training, and
    as the loaders do; all before the first picture is drawn.
    """
    settings = Settings(seeds=seeds)
    if limit is not None and limit < 1:
        raise PahiError(f"{limit} prompts cannot be evaluated", fix="use --limit 1 or more")
    more = [*scorers, judge] if judge else scorers
    entry = enter(targets, recipe, partial(timed, watch or Silent()), more)
    report = evaluate(
        ", ".join(map(str, targets)),
        entry.field,
        {name: prompts[:limit] for name, prompts in entry.groups.items()},
        entry.scorers,
        meanings=entry.meanings,
        trained=entry.trained,
        judge=judge or entry.judge,
        encoder=load_encoder(encoder),
        settings=settings,
        track=track,
    )
    return replace(report, generator=entry.generator, decoder=entry.decoder, variant=entry.variant, priors=entry.priors)


def evaluate(
    name: str,
    field: Field,
    groups: Groups,
    scorers: Mapping[str, Scorer],
    *,
    meanings: Mapping[str, str] | None = None,
    trained: Sequence[str] = (),
    judge: str | None = None,
    encoder: RandomFeatures | ClipFeatures | None = None,
    settings: Settings = USUAL,
    track: Track = silent,
) -> Report:
    """Table 1 of the contenders in `field`; `name` is what is printed above it.

    Args:
        groups: reported apart, and together where there are several.
        scorers: label -> scorer.
        meanings: what prompts mean, where several mean the same: the bootstrap draws them together.
        trained: labels of the scorers that a prior here was trained against.
        judge: label of the scorer that chooses the best of several candidates; the first if left out.
        encoder: what diversity is measured in; it must have trained nothing here.

    The same arguments give the same report. Raises PahiError for no prompts, no scorers, unusable scores or judge.
    """
    prompts, places = _join(groups)
    if not scorers:
        raise PahiError("no scorer to evaluate with", fix='name at least one, such as "pickscore"')
    judge = next(iter(scorers)) if judge is None else judge
    if judge not in scorers:
        raise PahiError(f"{judge} cannot choose pictures: it does not score", fix=f"use one of {', '.join(scorers)}")
    encoder = encoder or RandomFeatures()
    for module in (encoder, *scorers.values()):
        module.to(field.device)
    stand_for = {
        index: len(place) / min(len(place), settings.diversity_prompts)
        for place in places.values()
        for index in spread(place, settings.diversity_prompts)
    }
    measured = measure(field, prompts, list(stand_for), scorers, judge, encoder, settings, track)
    weights = torch.tensor(list(stand_for.values()), dtype=torch.float64)
    if len(places) > 1:
        places[ALL] = list(range(len(prompts)))
    clusters = number(meanings.get(prompt, prompt) if meanings else prompt for prompt in prompts)
    return Report(
        target=name,
        steps=field.steps,
        seeds=settings.seeds,
        diversity_seeds=settings.diversity_seeds,
        diversity_encoder=encoder.name,
        pictures=field.pictures,
        judge=judge,
        scorers={label: ScorerNote(scorer.unit, label in trained) for label, scorer in scorers.items()},
        groups=tuple(
            summarise(group, field.contenders, measured, clusters, weights, torch.tensor(place))
            for group, place in places.items()
        ),
    )


def summarise(
    group: str,
    contenders: Sequence[Contender],
    measured: Measurements,
    clusters: Tensor,
    weights: Tensor,
    place: Tensor,
) -> Group:
    """The rows of one group: the prompts whose indices are `place`, ascending int64 [n].

    `clusters`, int64 [N], has one number for all prompts that mean the same; `weights` [D] says for how many prompts
    each one stands that diversity was measured on.
    """
    scores = {label: values[..., place] for label, values in measured.scores.items()}
    sharp = measured.sharpness[..., place].double().mean(1)
    inside = torch.isin(measured.diverse, place)
    # Each group was measured on as many prompts, however large it is; together they weigh by what they stand for.
    distances = measured.distances[:, inside].double() * weights[inside]
    own, few = clusters[place], clusters[measured.diverse[inside]]
    rows = [
        Row(
            name=contender.name,
            pictures_drawn=contender.candidates,
            kl_nats=_finite(measured.kl[index, place].mean()),
            diversity_ratio=compare_means(distances[index], distances[0], few),
            sharpness_ratio=compare_means(sharp[index], sharp[0], own),
            scores={label: compare(values[0], values[index], own) for label, values in scores.items()},
        )
        for index, contender in enumerate(contenders)
    ]
    return Group(group, len(place), len(own.unique()), distances.shape[1], tuple(rows))


def compare_means(ours: Tensor, gaussian: Tensor, clusters: Tensor) -> Ratio | None:
    """Numbers of the same prompts [N], and the cluster of each -> the ratio of their means; None if the Gaussian's is
    zero."""
    values = torch.stack([ours, gaussian], 1)
    value = _finite(ratio(values.mean(0)))
    return None if value is None else Ratio(value, bootstrap_interval(values, ratio, clusters))


def spread(places: Sequence[int], count: int) -> list[int]:
    """`count` of `places`, or all if there are fewer, evenly spread over them."""
    count = min(count, len(places))
    return [places[index * len(places) // count] for index in range(count)]


def number(meanings: Iterable[str]) -> Tensor:
    """The same number for the same meaning, int64 [N]."""
    numbers: dict[str, int] = {}
    return torch.tensor([numbers.setdefault(meaning, len(numbers)) for meaning in meanings])


def _join(groups: Groups) -> tuple[list[str], dict[str, list[int]]]:
    """All prompts in one list, and where in it each group is."""
    prompts: list[str] = []
    places: dict[str, list[int]] = {}
    for group, members in groups.items():
        if not members:
            raise PahiError(f"no prompts to evaluate in the group {group!r}", fix="give at least one")
        places[group] = list(range(len(prompts), len(prompts) + len(members)))
        prompts += members
    if not prompts:
        raise PahiError("no prompts to evaluate", fix="give at least one")
    return prompts, places


def _finite(number: Tensor) -> float | None:
    return float(number) if number.isfinite() else None
