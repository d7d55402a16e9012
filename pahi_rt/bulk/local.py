"""A crew of processes on this machine, each with a runtime of its own."""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path

from pahi_rt.bulk.artist import Task
from pahi_rt.bulk.crew import Drawn, Event, Finished, Job, Lost, Ready, open_artist
from pahi_rt.errors import PahiError
from pahi_rt.machine import free_memory, usable_cores
from pahi_rt.runtimes.table import find

_REPORT = 0.2
"""Seconds between two reports about the pictures of a shard."""
_SHARE = 0.7
"""The share of the free memory that further workers may take: drawing takes more than loading."""


@dataclass(eq=False)
class _Worker:
    process: BaseProcess
    connection: Connection
    is_ready: bool = False
    task: Task | None = None


class LocalCrew:
    """`processes` workers; None: one on a GPU, and on a CPU as many as its cores and its memory allow.

    The first is started alone: it shows how much memory one takes, or why none can start.
    """

    def __init__(self, job: Job, processes: int | None = None) -> None:
        self._job = job
        self._processes = processes
        self._workers: list[_Worker] = []
        self._hire()

    @property
    def idle(self) -> int:
        """The workers that are ready for a shard."""
        return sum(worker.is_ready and worker.task is None for worker in self._workers)

    def give(self, task: Task) -> None:
        """Give a shard to an idle worker."""
        worker = next(worker for worker in self._workers if worker.is_ready and worker.task is None)
        worker.task = task
        with suppress(OSError):  # it is gone; `wait` says so
            worker.connection.send(task)

    def wait(self, seconds: float) -> Sequence[Event]:
        """What happened, after `seconds` at most. Raises what a worker could not go on from."""
        by_connection = {worker.connection: worker for worker in self._workers}
        found = wait(list(by_connection), seconds)
        return [event for connection in found for event in self._hear(by_connection[connection])]  # type: ignore[index]

    def dismiss(self) -> None:
        """End all workers at once, whatever they do."""
        for worker in self._workers:
            worker.process.kill()
        for worker in self._workers:
            worker.process.join()
            worker.connection.close()
        self._workers.clear()

    def _hire(self) -> None:
        # Not a fork: the threads of an inference library do not survive one.
        starts = multiprocessing.get_context("spawn")
        ours, theirs = starts.Pipe()
        process = starts.Process(target=_work, args=(theirs, self._job), daemon=True)
        with _without_interrupts():
            process.start()
        theirs.close()
        self._workers.append(_Worker(process, ours))

    def _hear(self, worker: _Worker) -> list[Event]:
        try:
            heard = worker.connection.recv()
        except (EOFError, OSError):
            return [self._replace(worker)]
        if isinstance(heard, _Broken):
            raise heard.error
        if isinstance(heard, Ready):
            worker.is_ready = True
            self._processes = self._processes or _as_many_as_fit(worker, heard, self._job.threads or 1)
            while len(self._workers) < self._processes:
                self._hire()
        if isinstance(heard, Finished):
            worker.task = None
        return [heard]

    def _replace(self, worker: _Worker) -> Event:
        worker.process.join()
        worker.connection.close()
        self._workers.remove(worker)
        self._hire()
        return Lost(worker.task, f"process {worker.process.pid} ended with {worker.process.exitcode}")


@dataclass(frozen=True)
class _Broken:
    """What a worker could not go on from."""

    error: Exception


def _work(connection: Connection, job: Job) -> None:
    """What a worker does, until its crew is gone."""
    try:
        _send(connection, _draw_all(connection, job))
    except _Gone:
        return


def _draw_all(connection: Connection, job: Job) -> _Broken:
    """Draw what the crew gives. Returns what it could not go on from, and raises _Gone if the crew is gone."""
    try:
        artist, description = open_artist(job)
        _send(connection, Ready(description))
        while True:
            task = _receive(connection)
            _send(connection, Finished(artist.draw(task, _Reporter(connection, task.shard))))
    except PahiError as error:
        return _Broken(error)
    except Exception as error:
        if isinstance(error, _Gone):
            raise
        return _Broken(RuntimeError(f"a worker failed:\n{traceback.format_exc()}"))


class _Gone(Exception):
    """The crew is gone: nobody is there to draw for. Not an OSError, which a store would explain as one of its own."""


def _send(connection: Connection, event: object) -> None:
    try:
        connection.send(event)
    except OSError as error:
        raise _Gone from error


def _receive(connection: Connection) -> Task:
    try:
        task: Task = connection.recv()
    except (EOFError, OSError) as error:
        raise _Gone from error
    return task


class _Reporter:
    """Reports pictures now and then. It is also how a worker notices that its crew is gone."""

    def __init__(self, connection: Connection, shard: int) -> None:
        self._connection = connection
        self._shard = shard
        self._pictures = 0
        self._said = time.monotonic()

    def __call__(self, pictures: int) -> None:
        self._pictures += pictures
        now = time.monotonic()
        if now - self._said >= _REPORT:
            _send(self._connection, Drawn(self._shard, self._pictures))
            self._pictures, self._said = 0, now


@contextmanager
def _without_interrupts() -> Iterator[None]:
    """What is started inside never sees Ctrl-C, which reaches all processes of a terminal: its crew decides."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _as_many_as_fit(worker: _Worker, ready: Ready, threads: int) -> int:
    """The number of workers like this one that this machine has cores and free memory for."""
    if find(str(ready.description["runtime"])).device != "cpu":
        return 1
    cores = usable_cores() // threads
    more = int(free_memory() * _SHARE / _memory_of(worker.process.pid))
    return max(1, min(cores, 1 + more))


def _memory_of(process: int | None) -> int:
    """The bytes that a process has in memory."""
    pages = int(Path(f"/proc/{process}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")
