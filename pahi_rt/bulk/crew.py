"""A crew: the workers that draw shards, in processes of this machine or on a cluster, and what they report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from pahi_rt.bulk.artist import Artist, Task
from pahi_rt.bulk.settings import Settings
from pahi_rt.bulk.stats import Stats
from pahi_rt.bulk.store import open_store
from pahi_rt.bundle import open_bundle
from pahi_rt.choice import choose
from pahi_rt.errors import BundleError
from pahi_rt.pipeline import Pipeline
from pahi_rt.runtimes.base import Description


@dataclass(frozen=True)
class Job:
    """What every worker is given when it starts."""

    bundle: str
    runtime: str
    threads: int | None
    """CPU cores that one worker uses; None leaves it to the runtime."""
    output: str
    settings: Settings
    additional: Mapping[str, Any]
    """Additional column -> its Arrow type."""


@dataclass(frozen=True)
class Ready:
    """A worker has loaded its runtime."""

    description: Description


@dataclass(frozen=True)
class Drawn:
    """Pictures of a shard that is not whole yet."""

    shard: int
    pictures: int
    """Since the last report."""


@dataclass(frozen=True)
class Finished:
    """A shard is whole."""

    stats: Stats


@dataclass(frozen=True)
class Lost:
    """A worker is gone, killed or with its machine; its shard, if it had one, is to be given away again."""

    task: Task | None
    reason: str


Event = Ready | Drawn | Finished | Lost


class Crew(Protocol):
    """Workers that draw shards. A worker that is lost is replaced."""

    @property
    def idle(self) -> int:
        """The workers that are ready for a shard."""
        ...

    def give(self, task: Task) -> None:
        """Give a shard to an idle worker."""
        ...

    def wait(self, seconds: float) -> Sequence[Event]:
        """What happened, after `seconds` at most. Raises what a worker could not go on from."""
        ...

    def dismiss(self) -> None:
        """End all workers at once, whatever they do."""
        ...


def open_pipeline(job: Job) -> Pipeline:
    """Load the bundle's graph. Raises BundleError if it is not the bundle of the run, and RuntimeUnavailable."""
    settings, bundle = job.settings, open_bundle(job.bundle)
    if bundle.sha256 != settings.bundle_sha256:
        fix = "give every machine the same bundle"
        raise BundleError(f"the bundle {job.bundle} is not the one that the run was begun with", fix=fix)
    chosen = choose(
        bundle,
        steps=settings.steps,
        runtime=job.runtime,
        threads=job.threads,
        prior=settings.prior,
        precision=settings.precision,
    )
    return Pipeline.open(chosen, batch_size=settings.batch_size, scorer=settings.scorer)


def open_artist(job: Job) -> tuple[Artist, Description]:
    """What a worker draws with, and a description of its runtime. Raises as `open_pipeline` does."""
    store = open_store(job.output)
    store.tidy()  # on a machine of a cluster, nobody else does
    pipeline = open_pipeline(job)
    return Artist(pipeline, store, job.settings, job.additional), pipeline.runtime.describe()
