"""The report of `pahi-rt bench stages`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from pahi_rt.bench.reports.report import Report, Spread
from pahi_rt.record import Record
from pahi_rt.schema import IF_ANY

DRIVER, TOKENS, NOISE, HASHES, WRITING = "driver, per row", "tokens", "noise", "hashes", "tar and table"


@dataclass(frozen=True, kw_only=True)
class Stage(Record):
    """What one picture takes on one core, beside the graph."""

    name: str
    """One of the names above, or a format of pictures, such as "png"."""
    pixels: int | None = field(default=None, metadata=IF_ANY)
    """Height and width; None where the picture's size does not matter."""
    ms: Spread
    bytes: float | None = field(default=None, metadata=IF_ANY)
    """Mean size of a file."""


@dataclass(frozen=True, kw_only=True)
class StagesReport(Report):
    """Report of `pahi-rt bench stages`."""

    pictures: Mapping[str, str]
    """Pixels -> what was encoded."""
    stages: tuple[Stage, ...]

    def find(self, name: str, pixels: int | None = None) -> Stage:
        """The stage of this name. Raises KeyError."""
        for stage in self.stages:
            if stage.name == name and stage.pixels == pixels:
                return stage
        raise KeyError(name)
