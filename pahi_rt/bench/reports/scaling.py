"""The report of `pahi-rt bench scaling`."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

from pahi_rt.errors import PahiError, ReportError
from pahi_rt.record import Record
from pahi_rt.schema import IF_ANY

MEASURED, PUBLISHED, DERIVED, ASSUMED = "measured", "published", "derived", "assumed"
"""How much a number is worth, best first."""


@dataclass(frozen=True)
class Range(Record):
    """From the best to the worst that the assumptions allow; equal where there is no doubt."""

    best: float
    worst: float


@dataclass(frozen=True)
class Assumption(Record):
    kind: str
    """measured, published, derived or assumed."""
    text: str


@dataclass(frozen=True, kw_only=True)
class Limit(Record):
    """The least time that a device needs for one picture, by its published peaks."""

    compute_ms: float
    """All components at the peak rate."""
    weights_ms: float
    """All weights read once from its memory, which pictures of a batch share."""

    @property
    def ms(self) -> float:
        return max(self.compute_ms, self.weights_ms)


@dataclass(frozen=True, kw_only=True)
class Device(Record):
    """A model on a machine."""

    name: str
    model: str
    draw_ms: Range
    """The graph alone."""
    kind: str
    """Where the time comes from: measured, published or derived."""
    how: str
    limit: Limit | None = field(default=None, metadata=IF_ANY)
    cores: int
    """CPU cores of the machine."""
    host_ms: float | None = field(default=None, metadata=IF_ANY)
    """All else for a picture as PNG, on one core; None where it is in the time of the graph already."""
    serial_per_s: Range
    """Pictures a second if one core does all else, while the graph waits."""
    pictures_per_s: Range
    """If all cores do it, while the graph draws others."""
    jpeg_per_s: Range | None = field(default=None, metadata=IF_ANY)
    """The same as JPEG instead of PNG; None where it was not reckoned."""
    dollars_per_h: float

    @property
    def limits(self) -> str:
        """What holds a machine up that does both at once."""
        others = (self.host_ms or 0.0) / self.cores
        if self.draw_ms.best > others:
            return "graph"
        return "graph or encoding" if self.draw_ms.worst > others else "encoding"


@dataclass(frozen=True, kw_only=True)
class Work(Record):
    """A number of pictures on one device."""

    device: str
    model: str
    pictures: int
    hours: Range
    """On one machine."""
    days: int
    """In which it should be done."""
    machines: Range
    """That takes so many."""
    dollars: Range


@dataclass(frozen=True, kw_only=True)
class Shared(Record):
    """What all workers of a run share."""

    name: str
    pictures_per_s: float
    """That it can keep up with."""
    workers: int
    """Machines of the fastest kind that this is enough for."""
    kind: str


@dataclass(frozen=True, kw_only=True)
class Stored(Record):
    """What the pictures take in an object store."""

    pixels: int
    pictures: int
    format: str
    terabytes: float
    dollars_per_month: float
    shard_dollars: float
    """Requests that put shards of 1000 pictures there, three objects each."""
    files_dollars: float
    """Requests that put single files there, three for each picture."""


@dataclass(frozen=True, kw_only=True)
class ScalingReport(Record):
    """Report of `pahi-rt bench scaling`: nothing in it was measured by it."""

    read_error: ClassVar[type[PahiError]] = ReportError
    read_fix: ClassVar[str] = "name another report"

    command: str
    devices: tuple[Device, ...]
    works: tuple[Work, ...]
    stored: tuple[Stored, ...]
    shared: tuple[Shared, ...]
    assumptions: tuple[Assumption, ...]
