"""The report of `pahi-rt bench operators`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import astuple, dataclass

from pahi_rt.bench.reports.report import Limits, Report
from pahi_rt.record import Record


@dataclass(frozen=True)
class Kind(Record):
    """All nodes of one kind."""

    nodes: int
    """Nodes of the graph as it was exported."""
    small: int
    """Nodes that a GPU does in less time than it takes to start them."""
    gflop: float
    """10^9 operations of convolutions and matrix products for one picture; a multiply-add is two."""
    megabytes: float
    """10^6 bytes that they read and write for one picture."""
    roofline_ms: float
    """What the nodes need on this CPU at the least, each for its operations or its bytes."""
    kernels: int
    """What ONNX Runtime runs on the CPU for one picture, after it has optimised the graph."""
    ms: float
    """What these take together."""


@dataclass(frozen=True, kw_only=True)
class OperatorsReport(Report):
    """Report of `pahi-rt bench operators`."""

    bundle: str
    precision: str
    steps: int
    limits: Limits
    kinds: Mapping[str, Kind]

    @property
    def total(self) -> Kind:
        """All kinds together."""
        return Kind(*(sum(column) for column in zip(*map(astuple, self.kinds.values()), strict=True)))
