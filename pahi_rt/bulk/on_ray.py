"""A crew of actors on a Ray cluster. Ray starts them and moves shards; what is whole, only the store says.

Every machine needs pahi-rt, the bundle under the same name, and the output: an object store or a shared folder.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import ray
from ray.exceptions import ActorDiedError, ActorUnavailableError, NodeDiedError, OutOfMemoryError, RayTaskError

from pahi_rt.bulk.artist import Task
from pahi_rt.bulk.crew import Event, Finished, Job, Lost, Ready, open_artist
from pahi_rt.bulk.stats import Stats
from pahi_rt.errors import RuntimeUnavailable
from pahi_rt.runtimes.base import Description
from pahi_rt.runtimes.table import find

_LOST = (ActorDiedError, ActorUnavailableError, NodeDiedError, OutOfMemoryError)


class _Drawer:
    """What runs in an actor. It loads nothing when it is made: Ray would take an error there for a lost actor."""

    def open(self, job: Job) -> Description:
        self._artist, description = open_artist(job)
        return description

    def draw(self, task: Task) -> Stats:
        return self._artist.draw(task)


@dataclass(eq=False)
class _Worker:
    actor: Any
    pending: Any
    """The reference of what it does now; None if it is idle."""
    is_ready: bool = False
    task: Task | None = None


class RayCrew:
    """`workers` actors; None: as many as the cluster has room for now. Ray makes more room if it scales by itself."""

    def __init__(self, job: Job, address: str | None = None, workers: int | None = None) -> None:
        try:
            self._is_mine = not ray.is_initialized()
            if self._is_mine:
                ray.init(address=address, logging_level=logging.ERROR, log_to_driver=False)
        except (ConnectionError, RuntimeError, ValueError) as error:
            what = f"no Ray cluster can be joined: {(str(error).splitlines() or [''])[0]}"
            raise RuntimeUnavailable(what, fix="check --ray-address; `ray status` shows the cluster") from error
        self._job = job
        self._needs = needs_of(job)
        self._workers: list[_Worker] = []
        for _ in range(workers or room_for(self._needs, ray.cluster_resources())):
            self._hire()

    @property
    def idle(self) -> int:
        """The workers that are ready for a shard."""
        return sum(worker.is_ready and worker.pending is None for worker in self._workers)

    def give(self, task: Task) -> None:
        """Give a shard to an idle worker."""
        worker = next(worker for worker in self._workers if worker.is_ready and worker.pending is None)
        worker.task, worker.pending = task, worker.actor.draw.remote(task)

    def wait(self, seconds: float) -> Sequence[Event]:
        """What happened, after `seconds` at most. Raises what a worker could not go on from."""
        by_reference = {worker.pending: worker for worker in self._workers if worker.pending is not None}
        found, _ = ray.wait(list(by_reference), num_returns=1, timeout=seconds)
        return [self._hear(by_reference[reference]) for reference in found]

    def dismiss(self) -> None:
        """End all workers at once, whatever they do, and leave the cluster."""
        for worker in self._workers:
            ray.kill(worker.actor, no_restart=True)
        self._workers.clear()
        if self._is_mine:
            ray.shutdown()

    def _hire(self) -> None:
        # Restarts and retries are ours: they are counted, and a shard goes to whoever is idle.
        options = {"max_restarts": 0, "max_task_retries": 0, **self._needs}
        actor = ray.remote(**options)(_Drawer).remote()
        self._workers.append(_Worker(actor, actor.open.remote(self._job)))

    def _hear(self, worker: _Worker) -> Event:
        try:
            answer = ray.get(worker.pending)
        except _LOST as error:
            return self._replace(worker, (str(error).splitlines() or [type(error).__name__])[0])
        except RayTaskError as error:
            raise error.cause from error
        worker.pending = None
        if worker.is_ready:
            worker.task = None
            return Finished(answer)
        worker.is_ready = True
        return Ready(answer)

    def _replace(self, worker: _Worker, reason: str) -> Event:
        self._workers.remove(worker)
        self._hire()
        return Lost(worker.task, reason)


def needs_of(job: Job) -> dict[str, float]:
    """What Ray reserves for one worker, by the runtime's entry in the table. "auto" counts as a CPU's."""
    entry = None if job.runtime == "auto" else find(job.runtime)
    if entry is not None and entry.device == "nvidia":
        return {"num_cpus": 1, "num_gpus": 1}
    return {"num_cpus": job.threads or 1}


def room_for(needs: Mapping[str, float], resources: Mapping[str, float]) -> int:
    """The number of workers that a cluster has room for, at least one."""
    names = {"num_cpus": "CPU", "num_gpus": "GPU"}
    return max(1, min(int(resources.get(names[name], 0) // amount) for name, amount in needs.items()))
