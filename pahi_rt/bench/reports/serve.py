"""The report of `pahi-rt bench serve`."""

from __future__ import annotations

from dataclasses import dataclass

from pahi_rt.bench.reports.report import Report, Spread
from pahi_rt.record import Record


@dataclass(frozen=True, kw_only=True)
class Moment(Record):
    """One second of the load."""

    drawn: int
    """Requests that were answered with a picture in this second."""
    refused: int
    lost: int
    slowest_ms: float | None
    """Longest time to a picture, among those drawn in this second."""
    rss_mib: float
    """Resident memory of all processes of the service at its end."""


@dataclass(frozen=True, kw_only=True)
class ServeReport(Report):
    """Report of `pahi-rt bench serve`."""

    bundle: str
    generator: str
    """What sent the requests, and its version."""
    workers: int
    deadline_s: float
    """After which the service gives a request up."""
    capacity_per_s: float
    """Requests a second that are drawn while sixteen clients each wait for their picture before they ask again."""
    offered_per_s: float
    """Requests a second of the load, which come whether or not earlier ones were answered."""
    requests: int
    drawn: int
    refused: int
    """With 429."""
    lost: int
    """All others: accepted and not drawn, or not answered."""
    drawn_ms: Spread
    """From the first byte of a request to the last of its answer."""
    started_rss_mib: float
    """Resident memory before the load, after pictures were drawn."""
    moments: tuple[Moment, ...]

    @property
    def peak_rss_mib(self) -> float:
        """The largest resident memory of a second."""
        return max(moment.rss_mib for moment in self.moments)

    @property
    def drawn_per_s(self) -> float:
        """Requests a second that were drawn during the load: what the capacity was then."""
        return self.drawn / len(self.moments)
