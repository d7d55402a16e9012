"""The report of `pahi-rt bench peers`."""

from __future__ import annotations

from dataclasses import dataclass

from pahi_rt.bench.reports.report import Limits, Ratio, Report, Spread
from pahi_rt.record import Record


@dataclass(frozen=True)
class PeerDescription(Record):
    """A program that draws, as it describes itself."""

    name: str
    version: str
    decoder: str


@dataclass(frozen=True, kw_only=True)
class PeerRow(PeerDescription):
    ms: Spread
    reference_ms: Spread
    """The reference's time in the same turns."""
    time_over_reference: Ratio


@dataclass(frozen=True)
class PeerFailure(Record):
    name: str
    reason: str


@dataclass(frozen=True, kw_only=True)
class PeersReport(Report):
    """Report of `pahi-rt bench peers`."""

    reference: PeerDescription
    limits: Limits
    rows: tuple[PeerRow | PeerFailure, ...]

    @property
    def measured(self) -> list[PeerRow]:
        return [row for row in self.rows if isinstance(row, PeerRow)]

    @property
    def failed(self) -> list[PeerFailure]:
        return [row for row in self.rows if isinstance(row, PeerFailure)]
