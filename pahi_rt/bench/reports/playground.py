"""The report of `pahi-rt bench playground`."""

from __future__ import annotations

from dataclasses import dataclass

from pahi_rt.bench.reports.report import Report, Spread
from pahi_rt.record import Record


@dataclass(frozen=True, kw_only=True)
class Typing(Record):
    """The page with one of those that draw for it."""

    engine: str
    """What draws, as the page says it."""
    shown_ms: Spread
    """From a key to its picture, of the keys that brought one."""


@dataclass(frozen=True, kw_only=True)
class PlaygroundReport(Report):
    """Report of `pahi-rt bench playground`."""

    bundle: str
    browser: str
    keys: int
    """Pressed on each page. One that came while an older one's picture was drawn may have brought none of its own."""
    delay_ms: int
    """Between two keys."""
    pages: tuple[Typing, ...]
