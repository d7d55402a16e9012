"""The report of `pahi-rt bench table2`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from pahi_rt.bench.reports.report import Limits, Ratio, Report, Spread
from pahi_rt.record import Record
from pahi_rt.schema import IF_ANY

TEXT_ENCODER, PRIOR, UNET, DECODER = COMPONENTS = ("text encoder", "prior", "unet", "decoder")
"""The components of a graph, in the order in which they run."""


@dataclass(frozen=True)
class ComponentWork(Record):
    """The work of a component of the graph for one picture."""

    gflop: float
    """10^9 operations of convolutions and matrix products; a multiply-add is two."""
    weights_mb: float
    activations_mb: float
    limit_ms: float
    """The least time that this machine needs for it."""


@dataclass(frozen=True, kw_only=True)
class Table2Row(Record):
    row: str
    """Name of the row for people."""
    prior: str
    steps: int
    """Denoising steps."""
    prompt: str
    """`fresh` for each picture, or `cached`: the text encoder has read it before."""
    ms: Spread
    """From the prompt to the picture as an image."""
    time_over_one_step: Ratio
    """Compared with one step of the same runtime without a prior."""
    scores: Mapping[str, float] | None
    """Scorer -> mean over the test prompts, in the scorer's unit."""
    limit_ms: float
    """The least time that this machine needs for it."""
    share_of_limit_percent: float
    """limit_ms as a part of the median."""
    peak_rss_mib: float | None
    """Peak memory of a process of its own that draws one picture."""


@dataclass(frozen=True, kw_only=True)
class RuntimeRows(Record):
    """All measurements of one runtime."""

    runtime: str
    rows: tuple[Table2Row, ...]
    images_per_s: Mapping[str, float]
    """Size of the batch -> pictures per second of the default prior in one step."""
    components_ms: Mapping[str, Spread] | None = field(default=None, metadata=IF_ANY)
    """Component of the graph -> its time alone; None where a runtime cannot run parts of a graph."""


@dataclass(frozen=True)
class Unavailable(Record):
    """A runtime that does not work here."""

    runtime: str
    reason: str
    fix: str


@dataclass(frozen=True, kw_only=True)
class Table2Report(Report):
    """Report of `pahi-rt bench table2`."""

    timed: str
    """What is inside the timed region."""
    bundle: str
    precision: str
    picture: tuple[int, int]
    """Height and width in pixels."""
    scored_prompts: int
    limits: Limits
    work: Mapping[str, ComponentWork]
    """Component of the graph -> its work for one picture of the default prior in one step."""
    runtimes: tuple[RuntimeRows | Unavailable, ...]

    @property
    def working(self) -> list[RuntimeRows]:
        """The runtimes that could be measured."""
        return [runtime for runtime in self.runtimes if isinstance(runtime, RuntimeRows)]

    @property
    def missing(self) -> list[Unavailable]:
        """The runtimes that do not work here."""
        return [runtime for runtime in self.runtimes if isinstance(runtime, Unavailable)]

    @property
    def scorers(self) -> list[str]:
        return sorted({label for runtime in self.working for row in runtime.rows for label in row.scores or {}})
