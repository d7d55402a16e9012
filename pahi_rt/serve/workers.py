"""Several processes on one listening socket: each draws on its own, and one that dies is replaced.

uvicorn has a supervisor too, but its workers run uvicorn's own Server, which stops listening at SIGTERM instead of
answering 503 while accepted work is finished, and SIGHUP restarts them instead of reading the API keys again.
"""

from __future__ import annotations

import logging
import multiprocessing
import os
import signal
import socket
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from multiprocessing.connection import wait
from multiprocessing.context import SpawnProcess
from pathlib import Path
from types import FrameType

from prometheus_client.multiprocess import mark_process_dead

from pahi_rt.errors import PahiError
from pahi_rt.machine import usable_cores
from pahi_rt.serve.logs import logging_to_stderr
from pahi_rt.serve.metrics import FOLDER
from pahi_rt.serve.server import open_models, serve
from pahi_rt.serve.settings import Settings
from pahi_rt.serve.sharing import Loads, Share
from pahi_rt.serve.signals import sighup_waits, take_sighup

LOG = logging.getLogger("pahi_rt.serve")
_SOON = 10.0
"""Seconds within which a worker that ends has not worked. One that has not loaded its models has not either."""
_TRIES = 5
"""How many may end without having worked, one after the other."""
_PAUSE = 1.0
"""Seconds before one that has not worked is replaced."""
_TICK = 0.2
_OVERTIME = 2.0
"""Seconds after the grace in which a worker may still end by itself."""


def supervise(settings: Settings, listener: socket.socket) -> None:
    """Run the workers until SIGTERM or SIGINT. Raises PahiError if they end before they have drawn anything."""
    share = max(1, usable_cores() // settings.workers)
    with _shared_metrics() as folder:
        supervisor = Supervisor(replace(settings, threads=settings.threads or share), listener, folder)
        with _signals(supervisor):
            supervisor.run()


@dataclass
class _Worker:
    place: int
    process: SpawnProcess
    began: float


class Supervisor:
    """Starts workers, replaces those that die, and ends them all."""

    def __init__(self, settings: Settings, listener: socket.socket, folder: Path) -> None:
        self._settings, self._listener, self._folder = settings, listener, folder
        self._loads = Loads(settings.workers)
        self._workers: list[_Worker] = []
        self._failed = 0
        """Workers that ended without having worked, one after the other."""
        self._is_ending = False

    def run(self) -> None:
        """Keep the workers alive until `end`. Raises PahiError."""
        try:
            self._workers = [self._start(place) for place in range(self._settings.workers)]
            while not self._is_ending:
                wait([worker.process.sentinel for worker in self._workers], _TICK)
                self._workers = [self._kept(worker) for worker in self._workers]
        finally:
            self._stop()

    def end(self, number: int, frame: FrameType | None) -> None:
        """End all workers: the handler of SIGTERM and SIGINT."""
        self._is_ending = True

    def pass_on(self, number: int, frame: FrameType | None) -> None:
        """Send a signal to all workers: the handler of SIGHUP."""
        self._send(signal.Signals(number))

    def _start(self, place: int) -> _Worker:
        arguments = self._settings, self._listener, Share(self._loads, place)
        process = multiprocessing.get_context("spawn").Process(target=_work, args=arguments)
        with sighup_waits():
            process.start()
        return _Worker(place, process, time.monotonic())

    def _kept(self, worker: _Worker) -> _Worker:
        """The worker, or another in its place if it is dead."""
        if worker.process.is_alive() or self._is_ending:
            return worker
        worker.process.join()
        has_worked = self._loads.is_open(worker.place) and time.monotonic() - worker.began >= _SOON
        self._loads.forget(worker.place)
        mark_process_dead(worker.process.pid, str(self._folder))  # type: ignore[no-untyped-call]
        LOG.warning("worker %s ended with %s; another takes its place", worker.process.pid, worker.process.exitcode)
        self._failed = 0 if has_worked else self._failed + 1
        if self._failed >= _TRIES:
            fix = "start it with --workers 1, which tells the reason, or with fewer workers if memory runs out"
            raise PahiError("the workers end before they have drawn anything", fix=fix)
        if not has_worked:
            time.sleep(_PAUSE)
        return self._start(worker.place)

    def _stop(self) -> None:
        self._send(signal.SIGTERM)
        ends = time.monotonic() + self._settings.grace + _OVERTIME
        for worker in self._workers:
            worker.process.join(max(0.0, ends - time.monotonic()))
            if worker.process.is_alive():
                worker.process.kill()
                worker.process.join()

    def _send(self, number: signal.Signals) -> None:
        for worker in self._workers:
            if worker.process.is_alive() and worker.process.pid is not None:
                os.kill(worker.process.pid, number)


def _work(settings: Settings, listener: socket.socket, share: Share) -> None:
    """What a worker does."""
    with logging_to_stderr(settings):
        _serve(settings, listener, share)


def _serve(settings: Settings, listener: socket.socket, share: Share) -> None:
    supervisor = multiprocessing.parent_process()
    try:
        is_done = serve(open_models(settings), settings, listener, share, supervisor.sentinel if supervisor else None)
    except PahiError as error:
        LOG.critical("error: %s", error.what)
        LOG.critical("fix: %s", error.fix)
        sys.exit(1)
    if not is_done:
        os._exit(1)  # a thread at work cannot be stopped, and Python would wait for it


@contextmanager
def _signals(supervisor: Supervisor) -> Iterator[None]:
    handlers = {signal.SIGTERM: supervisor.end, signal.SIGINT: supervisor.end, signal.SIGHUP: supervisor.pass_on}
    before = {number: signal.signal(number, handler) for number, handler in handlers.items()}
    take_sighup()
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def _shared_metrics() -> Iterator[Path]:
    """A folder in which the workers keep their counts, so that each can tell those of all. Raises PahiError."""
    try:
        place = tempfile.TemporaryDirectory(prefix="pahi-rt-metrics-")
    except OSError as error:
        what = f"there is nowhere to put the counts that workers share: {error.strerror or error}"
        raise PahiError(what, fix="let TMPDIR name a folder that can be written, or use --workers 1") from error
    before = os.environ.get(FOLDER)
    with place as folder:
        os.environ[FOLDER] = folder
        try:
            yield Path(folder)
        finally:
            del os.environ[FOLDER]
            if before is not None:
                os.environ[FOLDER] = before
