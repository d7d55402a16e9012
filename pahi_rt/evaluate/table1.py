"""Table 1: how often a prior's pictures beat the standard Gaussian's, and how much such a win is worth.

    evaluate_targets(["runs/pahi"])   runs of `pahi-rt train`, or a bundle: pahi-rt evaluate RUN...|BUNDLE
    evaluate(name, field, ...)        any contenders: measure -> a row for each contender and group of prompts

Wins are counted between pictures of independent noise, and between pictures of the same noise, where any tiny change
that is the same everywhere wins nearly always. A prior that knows only one style may win, too. So win rates come with
an interval over the meanings of prompts, the win rate by a margin, the effect size, diversity, sharpness and KL, and
with the same numbers for baselines that need no training.
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
    """Table 1 of runs or a bundle, on the test prompts of their recipe, under the recipe's scorers and further ones.

    Args:
        targets: run folders, whose recipes may differ only in how a prior was trained; or one bundle, as for
            `open_bundle`.
        seeds: pictures of each prompt.
        limit: most prompts of each group.
        recipe: for a bundle, the recipe that its prior was trained with; by default the recipe named like the bundle.
            Its test prompts must be the ones that training held out.
        encoder: folder or hub id of a CLIP to measure diversity with, which must not be related to the models here; by
            default `RandomFeatures`.
        scorers: specs of further scorers to report, which neither trained the prior nor decided when to stop.
        judge: spec of the scorer that chooses the best of several pictures, which is reported too; by default the
            recipe's first evaluation scorer.
        watch: receives progress events of the loading.
        track: wraps the batches, for a progress bar.

    Raises PahiError for a run or bundle without a prior, for prompts that have changed since the training, and as the
    loaders do; all before the first picture is drawn.
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
    """Table 1 of the contenders in `field`; `name` is printed above it.

    Args:
        groups: prompts to report separately; several groups are reported together as well.
        scorers: label -> scorer.
        meanings: prompt -> its meaning, where several prompts mean the same: the bootstrap draws them together.
        trained: labels of the scorers that a prior here was trained against.
        judge: label of the scorer that chooses the best of several candidates; by default the first.
        encoder: measures diversity; it must not be related to the models here.
        settings: how many pictures to draw.
        track: wraps the batches, for a progress bar.

    The same arguments give the same report. Raises PahiError without prompts or scorers, and for scores that are not
    finite or an unknown judge.
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
    diverse, weights = represent(places.values(), settings.diversity_prompts)
    measured = measure(field, prompts, diverse, scorers, judge, encoder, settings, track)
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
    """The rows of one group: the prompts with the indices `place`, ascending int64 [n].

    `clusters`, int64 [N], has the same number for prompts that mean the same. `weights` [D]: how many prompts each of
    the D prompts represents that diversity was measured on.
    """
    scores = {label: values[..., place] for label, values in measured.scores.items()}
    sharp = measured.sharpness[..., place].double().mean(1)
    inside = torch.isin(measured.diverse, place)
    # Groups of any size are measured on equally many prompts, so each prompt is weighted by how many it represents.
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
    """The ratio of the means of two measures [N] on the same prompts; None if the Gaussian's mean is 0.

    `clusters`, int64 [N], as in `bootstrap_interval`.
    """
    values = torch.stack([ours, gaussian], 1)
    value = _finite(ratio(values.mean(0)))
    return None if value is None else Ratio(value, bootstrap_interval(values, ratio, clusters))


def represent(places: Iterable[Sequence[int]], most: int) -> tuple[list[int], Tensor]:
    """At most `most` prompts of each group, for measures that not all of them are needed for.

    Returns their D indices, and how many prompts each of them stands for: float64 [D].
    """
    stand_for = {index: len(place) / min(len(place), most) for place in places for index in spread(place, most)}
    return list(stand_for), torch.tensor(list(stand_for.values()), dtype=torch.float64)


def spread(places: Sequence[int], count: int) -> list[int]:
    """`count` of the `places`, evenly spread; all of them if there are fewer."""
    count = min(count, len(places))
    return [places[index * len(places) // count] for index in range(count)]


def number(meanings: Iterable[str]) -> Tensor:
    """Number the meanings: int64 [N], the same number for the same meaning."""
    numbers: dict[str, int] = {}
    return torch.tensor([numbers.setdefault(meaning, len(numbers)) for meaning in meanings])


def _join(groups: Groups) -> tuple[list[str], dict[str, list[int]]]:
    """All prompts in one list, and the indices of each group in it."""
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
