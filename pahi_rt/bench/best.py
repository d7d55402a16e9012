"""pahi-rt bench best: what choosing the best of several pictures gains, and what it costs.

Rows are one step, one step with the bundle's prior, two steps, and the best of 2, 4 and 8 candidates, each chosen by
each of the bundle's scorers. All scorers judge all rows: the one that chose, and those that did not, which know nothing
of its taste. Method: of each held-out prompt, SEEDS pictures are drawn and scored; candidates are disjoint groups of
them in the order of their seeds, so that every picture counts in every row. An effect is the mean difference to one
step, in standard deviations between seeds, with a bootstrap interval over prompts. Times are taken in the same run: the
rows take turns, picture by picture, and a picture's time covers all its candidates and their scores.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from pahi_rt.bench import machine
from pahi_rt.bench.reports.best import BestReport, BestRow, BestScore
from pahi_rt.bench.timing import Draw, ratio, spread, take_turns
from pahi_rt.bundle import Bundle, open_bundle
from pahi_rt.evaluate.table1 import number
from pahi_rt.judge import Judge
from pahi_rt.manifest import GAUSSIAN
from pahi_rt.pipeline import Pipeline
from pahi_rt.scorers.statistics import bootstrap_interval, standardised
from pahi_rt.train.recipe import load_recipe

SEEDS = 8
SIZES = (2, 4, 8)
WITH_PRIOR = 4
"""Candidates of the row that has both a prior and a choice."""
Scores = Mapping[str, NDArray[np.float64]]
"""Judge -> scores [N, SEEDS] of N prompts."""


@dataclass(frozen=True)
class Way:
    """What draws: a prior and a number of steps."""

    prior: str
    steps: int

    def __str__(self) -> str:
        return f"{'' if self.prior == GAUSSIAN else f'{self.prior.upper()}, '}{self.steps} step{'s' * (self.steps > 1)}"


@dataclass(frozen=True)
class Row:
    """A way, and how many candidates it draws for one picture."""

    way: Way
    candidates: int = 1
    chooser: str | None = None

    def __str__(self) -> str:
        return str(self.way) if self.chooser is None else f"{self.way}, best of {self.candidates} by {self.chooser}"


def measure(
    name: str, recipe: str, prompts: int, rounds: int, force: bool, note: Callable[[str], None] = lambda line: None
) -> BestReport:
    """The whole report. Raises PahiError for a busy machine, unless `force`, and for a bundle without scorers."""
    busy, environment = machine.check_idle(force), machine.describe()
    bundle = open_bundle(name)
    bundle.choose_scorer()
    texts, clusters = held_out(recipe, prompts)
    judges = {scorer: Judge.load(bundle, scorer) for scorer in bundle.scorers}
    rows = list_rows(bundle)
    pipelines = {way: load(bundle, way) for way in dict.fromkeys(row.way for row in rows)}
    times = take_turns([drawing(bundle, pipelines[row.way], row, texts) for row in rows], rounds, warm_up=2)
    scores: dict[Way, Scores] = {}
    for way, pipeline in pipelines.items():
        note(f"scoring {way}")
        scores[way] = score(pipeline, judges, texts)
    described = [
        BestRow(
            row=str(row),
            prior=row.way.prior,
            steps=row.way.steps,
            candidates=row.candidates,
            chooser=row.chooser,
            ms=spread(taken),
            time_over_one_step=ratio(taken, times[0]),
            scores={judge: compare(row, judge, scores, rows[0].way, clusters) for judge in judges},
        )
        for row, taken in zip(rows, times, strict=True)
    ]
    return BestReport(
        command=machine.command(),
        machine=environment,
        busy=busy,
        bundle=name,
        recipe=recipe,
        prompts=len(texts),
        seeds=SEEDS,
        judges={scorer: judge.unit for scorer, judge in judges.items()},
        rows=tuple(described),
    )


def held_out(recipe: str, most: int) -> tuple[list[str], torch.Tensor]:
    """At most so many of a recipe's test prompts, and for each the number of its meaning. Raises PahiError."""
    split = load_recipe(recipe).prompts.load()
    prompts = list(split.test[:most])
    return prompts, number(split.meanings.get(prompt, prompt) for prompt in prompts)


def list_rows(bundle: Bundle) -> list[Row]:
    """One step first; then what else the bundle can do."""
    plain, ways = Way(GAUSSIAN, 1), [Way(GAUSSIAN, 1)]
    prior = Way(bundle.priors[0], 1) if bundle.priors else None
    if prior is not None:
        ways.append(prior)
    if 2 in bundle.graphs(GAUSSIAN):
        ways.append(Way(GAUSSIAN, 2))
    chosen = [Row(plain, size, scorer) for scorer in bundle.scorers for size in SIZES]
    both = [Row(prior, WITH_PRIOR, scorer) for scorer in bundle.scorers] if prior else []
    return [*map(Row, ways), *chosen, *both]


def load(bundle: Bundle, way: Way) -> Pipeline:
    """Raises BundleError, RuntimeUnavailable."""
    return Pipeline.load(bundle, steps=way.steps, runtime="onnxruntime", prior=way.prior)


def drawing(bundle: Bundle, pipeline: Pipeline, row: Row, prompts: Sequence[str]) -> Draw:
    """Draws the n-th picture of a row."""
    choosing = Pipeline(
        bundle, pipeline.runtime, pipeline.tokenizer, steps=row.way.steps, prior=row.way.prior, scorer=row.chooser
    )
    candidates = None if row.chooser is None else row.candidates
    return lambda n: choosing(prompts[n % len(prompts)], seed=abs(n) * SEEDS, candidates=candidates)


def score(pipeline: Pipeline, judges: Mapping[str, Judge], prompts: Sequence[str]) -> Scores:
    """Draw SEEDS pictures of each prompt, each prompt from seeds of its own, and score them."""
    found: dict[str, list[list[float]]] = {name: [] for name in judges}
    for index, prompt in enumerate(prompts):
        pictures = pipeline(prompt, seed=index * SEEDS, count=SEEDS)
        for name, judge in judges.items():
            found[name].append(judge.score(pictures, [prompt] * SEEDS))
    return {name: np.array(rows) for name, rows in found.items()}


def choose(own: NDArray[np.float64], judged: NDArray[np.float64], candidates: int) -> NDArray[np.float64]:
    """The mean score [N] that a judge gives the best of each group of candidates, by the chooser's `own` [N, SEEDS]."""
    groups = (len(own), -1, candidates)
    best = own.reshape(groups).argmax(2)[..., None]
    means: NDArray[np.float64] = np.take_along_axis(judged.reshape(groups), best, 2)[..., 0].mean(1)
    return means


def compare(row: Row, judge: str, scores: Mapping[Way, Scores], one_step: Way, clusters: torch.Tensor) -> BestScore:
    """What a judge says of a row."""
    plain, own = scores[one_step][judge], scores[row.way]
    means = choose(own[row.chooser or judge], own[judge], row.candidates)
    effects = torch.tensor(np.stack([means - plain.mean(1), plain.var(1, ddof=1)], 1))
    is_known = bool(effects[:, 1].mean() > 0)
    return BestScore(
        mean=round(float(means.mean()), 4),
        effect_size=round(float(standardised(effects.mean(0))), 4) if is_known else None,
        effect_size_interval=bootstrap_interval(effects, standardised, clusters) if is_known else None,
    )
