"""The report of `pahi-rt bench best`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from pahi_rt.bench.reports.report import Ratio, Report, Spread
from pahi_rt.comparison import Interval
from pahi_rt.record import Record


@dataclass(frozen=True)
class BestScore(Record):
    """What one judge says of a row."""

    mean: float
    """In the judge's unit."""
    effect_size: float | None
    """Mean difference to one step without a prior, in standard deviations between seeds of one prompt there."""
    effect_size_interval: Interval | None
    """95 % bootstrap interval over prompts, or over clusters of them."""


@dataclass(frozen=True)
class BestRow(Record):
    """One way to spend time on a picture."""

    row: str
    prior: str
    steps: int
    candidates: int
    chooser: str | None
    """The scorer that chose; None for one candidate."""
    ms: Spread
    """Milliseconds a picture that is kept, all its candidates and their scores included."""
    time_over_one_step: Ratio
    scores: Mapping[str, BestScore]
    """Judge -> score. The chooser is a judge too, of its own choice."""


@dataclass(frozen=True, kw_only=True)
class BestReport(Report):
    """Report of `pahi-rt bench best`."""

    bundle: str
    recipe: str
    prompts: int
    """Held-out prompts."""
    seeds: int
    """Pictures of each prompt, from which candidates are taken."""
    judges: Mapping[str, str]
    """Scorer -> unit."""
    rows: tuple[BestRow, ...]
