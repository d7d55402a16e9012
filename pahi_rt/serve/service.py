"""The service of one process: everything that its routes share."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Iterator, MutableMapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

from pahi_rt.errors import PahiError, RequestError
from pahi_rt.pipeline import Pipeline
from pahi_rt.serve.best import Judges
from pahi_rt.serve.encode import Reply, encode
from pahi_rt.serve.engine import Engine, Load
from pahi_rt.serve.keys import Keys
from pahi_rt.serve.metrics import Metrics
from pahi_rt.serve.models import Models
from pahi_rt.serve.pool import Pool
from pahi_rt.serve.problems import cannot_draw, draining, overdue, refused
from pahi_rt.serve.queue import Drawn, Job
from pahi_rt.serve.requests import Order
from pahi_rt.serve.settings import Settings

LOG = logging.getLogger("pahi_rt.serve")
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
_ENCODERS = 2
"""Threads that make files of pictures."""


class ClientGone(Exception):
    """The client has closed its connection, and nobody waits for the pictures."""


@dataclass
class Service:
    """The settings, the engine, and what stands beside it."""

    settings: Settings
    engine: Engine
    metrics: Metrics
    keys: Keys
    _judges: Judges = field(default_factory=Judges)
    live: int = 0
    """Open connections to /v1/live."""
    answering: set[object] = field(default_factory=set)
    """Open connections to /v1/live that wait for an answer. The service does not end before they have it."""
    _replies: set[asyncio.Task[Reply]] = field(default_factory=set)
    """Replies that are not made yet."""
    _encoders: Pool = field(default_factory=lambda: Pool(_ENCODERS, "encode"))
    _scoring: Pool = field(default_factory=lambda: Pool(1, "score"))
    """Apart from the others: a scorer may take longer than a model, and pictures without one need not wait for it."""
    _reader: Pool = field(default_factory=lambda: Pool(1, "read"))

    @classmethod
    def of(cls, models: Models, settings: Settings, load: Load = Pipeline.open) -> Service:
        """A service that offers these models. Raises PahiError for a file of keys that cannot be read."""
        metrics = Metrics(are_shared=settings.workers > 1)
        return cls(settings, Engine(models, settings, metrics, load), metrics, Keys(settings.api_key_file))

    async def accept(self, pictures: int, make: Callable[[Models], Order]) -> Job:
        """Read a request, which has its places in the queue meanwhile, and accept it. Raises Problem."""
        self.engine.check_open()
        with self.engine.queue.holding(pictures):
            order = await self.read(make)
        return self.engine.queue.put(order)  # even if the end has begun meanwhile

    async def read(self, make: Callable[[Models], Order]) -> Order:
        """Make an order of a request, in a thread: the token ids of long prompts take a while. Raises Problem."""
        return await asyncio.get_running_loop().run_in_executor(self._reader, make, self.engine.models)

    async def finish(self, job: Job, receive: Receive) -> Reply:
        """Wait for a job's reply. Raises Problem, or ClientGone when the client leaves."""
        gone = asyncio.ensure_future(_until_gone(receive))
        try:
            with self.replying(job) as reply:
                waiting: set[asyncio.Future[Any]] = {reply, gone}
                await asyncio.wait(waiting, timeout=self.time_left(job), return_when=asyncio.FIRST_COMPLETED)
                if gone.done() and not reply.done():
                    raise ClientGone
                return self.result(reply)
        finally:
            gone.cancel()

    @contextmanager
    def replying(self, job: Job) -> Iterator[asyncio.Task[Reply]]:
        """The task that makes a job's reply once it is drawn. What is left of both at the end is given up."""
        reply = asyncio.ensure_future(self._reply(job))
        self._replies.add(reply)
        try:
            yield reply
        finally:
            self._replies.discard(reply)
            reply.cancel()
            self.engine.queue.withdraw(job)

    def result(self, reply: asyncio.Task[Reply]) -> Reply:
        """The reply. Raises Problem: if it is not there, its deadline has passed, or the service ends."""
        if reply.cancelled():
            raise draining()
        if not reply.done():
            raise overdue(self.settings.deadline)
        return reply.result()

    def give_up(self) -> None:
        """Answer everybody who still waits that the service ends."""
        for reply in self._replies:
            reply.cancel()

    def time_left(self, job: Job) -> float:
        """Seconds until a job's deadline; 0 if it has passed."""
        return max(0.0, job.arrived + self.settings.deadline - time.perf_counter())

    async def _reply(self, job: Job) -> Reply:
        """Make the files of a job once it is drawn. Its pictures keep their places in the queue until they are made."""
        drawn = await job.done
        order = job.order  # a newer one may have replaced it until now
        pool = self._encoders if order.choice is None else self._scoring
        with self.engine.queue.keeping(len(order.shots)):
            reply = await asyncio.get_running_loop().run_in_executor(pool, self._encode, order, drawn)
        width, height = order.model.size
        self.metrics.served(order.model.name, len(reply.files), width * height, reply.timing)
        return reply

    def _encode(self, order: Order, drawn: Drawn) -> Reply:
        try:
            return encode(*self._judges.choose(order, drawn))
        except RequestError as error:  # the scorer has a tokenizer of its own
            raise refused(error) from error
        except PahiError as error:
            LOG.warning("pictures cannot be scored: %s", error)
            raise cannot_draw() from error

    def note_state(self) -> None:
        """Bring the gauges up to date."""
        engine = self.engine
        self.metrics.state(
            num_requests_waiting=engine.queue.jobs_waiting,
            num_images_waiting=engine.queue.waiting,
            queue_limit_images=engine.limit,
            images_per_second=engine.rate if engine.is_ready else 0.0,
            live_connections=self.live,
            queue_wait_estimate_seconds=engine.queue.unfinished / engine.rate,
        )

    @property
    def is_busy(self) -> bool:
        """Whether a thread is at work."""
        return any(pool.is_busy for pool in self._pools)

    def close(self) -> None:
        """Release the threads. What one of them is doing cannot be stopped."""
        for pool in self._pools:
            pool.shutdown(wait=False, cancel_futures=True)

    @property
    def _pools(self) -> tuple[Pool, ...]:
        return self.engine.thread, self._reader, self._encoders, self._scoring


async def _until_gone(receive: Receive) -> None:
    with suppress(Exception):
        while (await receive())["type"] != "http.disconnect":
            pass
