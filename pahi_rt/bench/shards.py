"""pahi-rt bench shards: what the size of a shard costs on many workers that are slow, or lost.

The loop that hands out shards is the one of `pahi-rt bulk`; only its crew is simulated, and passes time by adding it
up. So shards go to whoever is idle, those of lost workers go out again, too many losses over one shard end the run, and
no shard is ever drawn twice at once to get round a slow worker.
"""

from __future__ import annotations

import heapq
import math
import statistics
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from pahi_rt.bench import machine
from pahi_rt.bench.reports.shards import Cluster, ShardsReport, ShardsRow
from pahi_rt.bulk.artist import Task
from pahi_rt.bulk.crew import Event, Finished, Lost, Ready
from pahi_rt.bulk.dispatch import hand_out
from pahi_rt.bulk.rows import digest
from pahi_rt.bulk.stats import Stats
from pahi_rt.errors import RunError

SHARD_SECONDS = (30.0, 60.0, 120.0, 300.0, 600.0, 1200.0, 3600.0)
LIFETIMES_H = (None, 24.0, 4.0)
"""Machines that last, that are taken away about once a day, and several times a day."""
_STATS = Stats(0, 0, 0, 0, 0, {}, (), "", digest(()), {}, {}, 0.0, 0.0, 0.0)
"""Nobody reads what is in it."""


def simulate(
    cluster: Cluster,
    seeds: int,
    shard_seconds: Sequence[float] = SHARD_SECONDS,
    lifetimes_h: Sequence[float | None] = LIFETIMES_H,
    show: Callable[[ShardsRow], None] = lambda row: None,
) -> ShardsReport:
    """The whole report; `show` is told of each row when it is there."""
    rows = []
    for lifetime in lifetimes_h:
        for shard_s in shard_seconds:
            rows.append(_row(cluster, shard_s, lifetime, seeds))
            show(rows[-1])
    return ShardsReport(command=machine.command(), cluster=cluster, seeds=seeds, rows=tuple(rows))


def _row(cluster: Cluster, shard_s: float, lifetime_h: float | None, seeds: int) -> ShardsRow:
    crews = [_run(cluster, shard_s, lifetime_h, seed) for seed in range(seeds)]
    finished = [crew.longer_percent for crew in crews if not crew.has_ended]

    def share(seconds: Callable[[_Crew], float]) -> float:
        return round(statistics.fmean(100 * seconds(crew) / (cluster.workers * crew.now) for crew in crews), 2)

    return ShardsRow(
        shard_s=shard_s,
        pictures=round(shard_s * cluster.pictures_per_s),
        shards=crews[0].shards,
        lifetime_h=lifetime_h,
        longer_percent=round(statistics.median(finished or [0.0]), 2),
        lost_percent=share(lambda crew: crew.lost_s),
        starting_percent=share(lambda crew: crew.starting_s),
        idle_percent=share(lambda crew: crew.idle_s),
        driver_percent=share(lambda crew: cluster.workers * crew.driver_s),
        runs=seeds,
        ended=seeds - len(finished),
    )


def _run(cluster: Cluster, shard_s: float, lifetime_h: float | None, seed: int) -> _Crew:
    crew = _Crew(cluster, shard_s, lifetime_h, np.random.default_rng(seed))
    tasks: Iterator[Task] = (Task(shard, ()) for shard in range(crew.shards))
    try:
        hand_out(next(tasks), tasks, crew, lambda event: None, lambda: None)
    except RunError:
        crew.has_ended = True
    crew.dismiss()
    return crew


class _Coming(NamedTuple):
    """What will happen: a shard is whole, a worker is lost, or one that replaces it is ready (without a shard)."""

    time: float
    worker: int
    task: Task | None = None
    after: float = 0.0
    """Seconds since the shard was given."""
    is_loss: bool = False


class _Crew:
    """Workers of several speeds. All are ready when the clock begins."""

    def __init__(self, cluster: Cluster, shard_s: float, lifetime_h: float | None, random: np.random.Generator) -> None:
        self._cluster = cluster
        self._shard_s = shard_s
        self._lifetime_s = None if lifetime_h is None else 3600 * lifetime_h
        self._random = random
        self._speeds = [self._draw_speed() for _ in range(cluster.workers)]
        self.shards = round(3600 * cluster.hours * sum(self._speeds) / shard_s)
        self._idle = list(range(cluster.workers))
        self._idle_since = [0.0] * cluster.workers
        self._coming: list[_Coming] = []
        self.now = self.driver_s = self.lost_s = self.starting_s = self.idle_s = 0.0
        self.has_ended = False

    @property
    def longer_percent(self) -> float:
        return 100 * (self.now / (3600 * self._cluster.hours) - 1)

    @property
    def idle(self) -> int:
        """The workers that are ready for a shard."""
        return len(self._idle)

    def give(self, task: Task) -> None:
        """Give a shard to an idle worker."""
        self._keep_driver_busy(self._cluster.driver_us_per_row * self._shard_s * self._cluster.pictures_per_s / 1e6)
        worker = self._idle.pop()
        self.idle_s += self.now - self._idle_since[worker]
        takes = self._shard_s / self._speeds[worker]
        lasts = math.inf if self._lifetime_s is None else self._random.exponential(self._lifetime_s)
        heapq.heappush(
            self._coming, _Coming(self.now + min(takes, lasts), worker, task, min(takes, lasts), lasts < takes)
        )

    def wait(self, seconds: float) -> Sequence[Event]:
        """The next thing that happens, whenever that is."""
        coming = heapq.heappop(self._coming)
        self.now = max(self.now, coming.time)
        self._keep_driver_busy(self._cluster.driver_ms_per_shard / 1e3)
        if coming.is_loss:
            return [self._lose(coming)]
        self._idle.append(coming.worker)
        self._idle_since[coming.worker] = coming.time
        return [_READY if coming.task is None else _FINISHED]

    def _lose(self, loss: _Coming) -> Event:
        """Another worker takes the place, at another speed."""
        self.lost_s += loss.after
        self.starting_s += self._cluster.start_s
        self._speeds[loss.worker] = self._draw_speed()
        heapq.heappush(self._coming, _Coming(loss.time + self._cluster.start_s, loss.worker))
        return Lost(loss.task, "simulated")

    def dismiss(self) -> None:
        """Count what the workers have waited at the end."""
        self.idle_s += sum(self.now - self._idle_since[worker] for worker in self._idle)
        self._idle.clear()

    def _keep_driver_busy(self, seconds: float) -> None:
        self.now += seconds
        self.driver_s += seconds

    def _draw_speed(self) -> float:
        """A factor; its median is 1."""
        speed = float(np.exp(self._random.normal(0.0, self._cluster.speed_sigma)))
        is_slow = self._random.random() < self._cluster.stragglers_percent / 100
        return speed / self._cluster.straggler_slowness if is_slow else speed


_DESCRIPTION: Any = {"runtime": "simulated"}
_READY, _FINISHED = Ready(_DESCRIPTION), Finished(_STATS)
