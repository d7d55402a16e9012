"""Formats the ceiling of noise priors as text, at most 100 columns wide."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

from pahi_rt.evaluate.ceiling_report import Agreement, CeilingReport, Estimate, Pair, ScorerCeiling
from pahi_rt.evaluate.text import FEW, Cells, align, wrap

_NONE = "-"
_MANY = 1_000_000
"""Samples that are not told apart from any larger number."""


def format_ceiling(report: CeilingReport) -> str:
    """The tables, followed by the meaning of their rows."""
    meanings = f" (of {report.meanings} meanings)" if report.meanings < report.prompts else ""
    title = (
        f"{report.target}: what a noise prior can gain, {report.prompts} prompts{meanings} x {report.pictures} pictures"
    )
    tables = [_format_scorer(name, scorer) for name, scorer in report.scorers.items()]
    agreement = [_format_agreements(report.agreements)] if report.agreements else []
    return "\n\n".join([wrap(title), *tables, *agreement, wrap(_explain(report))])


def _format_scorer(name: str, scorer: ScorerCeiling) -> str:
    rows: list[Cells] = [
        (f"{name} ({scorer.unit})", "PAHI", "HI"),
        ("variance that is odd in the noise, %", _cell(scorer.odd_share, _percent), ""),
        _row("linear, %", Pair(scorer.linear_share, scorer.shared_share), _percent),
        ("the same by gradients, %", _cell(scorer.linear_share_by_gradients, _percent), ""),
        _row("that sigma can use, %", Pair(scorer.spread_share, scorer.shared_spread_share), _percent),
        _row("effect at 1 nat, at most (sd)", scorer.ceiling, _effect),
        _row("wins of 100 at that, about", scorer.ceiling, _wins),
        _row("effect of a fit to other concepts", scorer.reached, _effect),
        *(_row(f"samples, {kind} gradient", pair, _samples) for kind, pair in scorer.samples.items()),
    ]
    return "\n".join(align(rows))


def _format_agreements(agreements: tuple[Agreement, ...]) -> str:
    rows: list[Cells] = [("trained on, judged by", "scores", "linear part", "PAHI at 1 nat, at most")]
    for pair in agreements:
        numbers = (pair.score_correlation, pair.linear_cosine, pair.ceiling_under)
        rows.append((f"{pair.of}, {pair.under}", *(_cell(number, _effect) for number in numbers)))
    return "\n".join(align(rows))


def _row(name: str, pair: Pair, form: Callable[[float], str]) -> Cells:
    return name, _cell(pair.pahi, form), _cell(pair.hi, form)


def _cell(estimate: Estimate | None, form: Callable[[float], str]) -> str:
    if estimate is None:
        return _NONE
    if estimate.interval is None:
        return form(estimate.value)
    low, high = map(form, estimate.interval)
    return f"{form(estimate.value)} ({low} to {high})"


def _percent(share: float) -> str:
    return f"{100 * share:.1f}"


def _effect(value: float) -> str:
    return f"{value:.2f}"


def _wins(effect: float) -> str:
    """Wins against independent noise, if scores are Gaussian: Phi(effect / sqrt 2)."""
    return f"{50 * (1 + math.erf(effect / 2)):.0f}"


def _samples(count: float) -> str:
    """Two digits, for nothing more is known."""
    if count >= _MANY:
        return f"over {_MANY:,}"
    digits = max(0, len(str(round(count))) - 2)
    return f"{round(count, -digits):,.0f}"


def _explain(report: CeilingReport) -> Iterator[str]:
    yield (
        "The variance is that between pictures of one prompt. linear: what a mean that is small can use, of each"
        " prompt's own (PAHI) or one for all prompts (HI). At K nats the effect is at most the root of 2 K times that"
        " share, in sd between pictures of one prompt; scores that saturate gain less, also against what is printed"
        " here. By gradients: from d score / d noise; a clear difference means that the score has jumps, which"
        " gradients do not see. Intervals: 95 %, by bootstrap over the meanings of prompts."
    )
    yield (
        "fit to other concepts: the effect, to first order, of a mean that was fitted to the clipped gradients here (to"
        " the score function's if there are none), on prompts of other meaning: by ridge regression on the embedding"
        " (PAHI) and by the average (HI). A training sees more prompts and noises, and can reach more. judged by: the"
        " mean that is best for one scorer, under the other."
    )
    each = report.training_samples / report.training_prompts
    yield (
        "samples: after so many, the signal of the mean gradient is as large as its noise; for PAHI of one prompt,"
        " which is too many where prompts have something in common, for HI of all prompts together; - if there may be"
        " none. A sample of the score function is a pair of opposite noises. A training by the recipe has at most"
        f" {report.training_samples:,} samples, {each:.2g} of each of {report.training_prompts:,} prompts."
    )
    if report.meanings < FEW:
        yield f"Caution: with fewer than {FEW} prompts of different meaning the intervals are too narrow."
