"""The report of `pahi-rt bench shards`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from pahi_rt.errors import PahiError, ReportError
from pahi_rt.record import Record


@dataclass(frozen=True, kw_only=True)
class Cluster(Record):
    """What is simulated; every number is an assumption."""

    workers: int = 1000
    hours: float = 6.0
    """How long the work takes if nothing goes wrong and all workers are busy to the end."""
    pictures_per_s: float = 10.0
    """Rate of a worker of median speed."""
    start_s: float = 60.0
    """From a worker's start until it is ready."""
    speed_sigma: float = 0.1
    """Spread of the logarithm of the workers' speeds."""
    stragglers_percent: float = 1.0
    """Workers that are slow as long as they live."""
    straggler_slowness: float = 3.0
    """How many times as long such a worker takes."""
    driver_ms_per_shard: float = 2.0
    """Time in which the driver can do nothing else: to hand a shard out, and to hear of its end."""
    driver_us_per_row: float = 10.0
    """The same for each row, which is read, hashed and sent."""


@dataclass(frozen=True, kw_only=True)
class ShardsRow(Record):
    """One size of shards on machines of one kind. Shares are of all workers' time, means over the runs."""

    shard_s: float
    """Time that a worker of median speed takes for a shard."""
    pictures: int
    """In a shard."""
    shards: int
    lifetime_h: float | None
    """Mean time until a worker is lost; None: never."""
    longer_percent: float
    """How much longer than if nothing went wrong: median of the runs that finished. 0 if none did."""
    lost_percent: float
    """Work on shards that were lost with their worker."""
    starting_percent: float
    """Waiting for workers that replace lost ones."""
    idle_percent: float
    """Waiting for a shard: for the driver, and for the last shards at the end."""
    driver_percent: float
    """Share of the time in which the driver is busy."""
    runs: int
    ended: int
    """Runs that ended with an error, because one shard had cost too many workers."""


@dataclass(frozen=True, kw_only=True)
class ShardsReport(Record):
    """Report of `pahi-rt bench shards`."""

    read_error: ClassVar[type[PahiError]] = ReportError
    read_fix: ClassVar[str] = "name another report"

    command: str
    cluster: Cluster
    seeds: int
    """Runs of each row, with the seeds 0, 1, ..."""
    rows: tuple[ShardsRow, ...]

    @property
    def lifetimes(self) -> list[float | None]:
        """The lifetimes that were simulated, longest first."""
        return sorted({row.lifetime_h for row in self.rows}, key=lambda hours: -(hours or float("inf")))
