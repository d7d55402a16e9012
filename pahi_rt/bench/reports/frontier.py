"""What `pahi-rt bench frontier` reads: a report of `pahi-rt evaluate`, of this version or of an earlier one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from pahi_rt.comparison import Comparison, Interval
from pahi_rt.evaluate.report import Group, Report, Row
from pahi_rt.record import Record


@dataclass(frozen=True)
class EarlierComparison(Record):
    """A comparison from before pictures of independent noise came first; rates without a word are of the same noise."""

    win_rate_percent: float
    win_rate_std_percent: float
    win_rate_interval_percent: Interval | None
    margin_win_rate_percent: float
    independent_win_rate_percent: float
    effect_size: float | None
    effect_size_interval: Interval | None
    mean_score: float
    gaussian_mean_score: float
    seed_std: float


@dataclass(frozen=True)
class FrontierRow(Row):
    scores: Mapping[str, Comparison | EarlierComparison]  # type: ignore[assignment]  # wider: this one is only read


@dataclass(frozen=True)
class FrontierGroup(Group):
    rows: tuple[FrontierRow, ...]


@dataclass(frozen=True)
class FrontierReport(Report):
    groups: tuple[FrontierGroup, ...]
