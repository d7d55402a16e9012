"""The one bounded queue: jobs in the order in which they came, and the batches that form from them.

Everything here happens in the event loop's thread.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from PIL import Image

from pahi_rt.serve.problems import Problem
from pahi_rt.serve.requests import Order, Shot

Key = tuple[str, str]
"""A model's name and a graph's file: pictures of one batch share them."""


@dataclass
class Drawn:
    """The pictures of a job, and how long they took."""

    images: list[Image.Image]
    queue_ms: float
    run_ms: float
    score_ms: float | None = None
    """None if nothing was chosen among them."""


@dataclass(eq=False)
class Job:
    """An order's place in the queue."""

    order: Order
    done: asyncio.Future[Drawn] = field(default_factory=lambda: asyncio.get_running_loop().create_future())
    arrived: float = field(default_factory=time.perf_counter)
    started: float | None = None
    """When its first picture was taken into a batch."""
    taken: int = 0
    """Shots that were taken into batches."""
    images: dict[int, Image.Image] = field(default_factory=dict)

    def __post_init__(self) -> None:
        # Nobody may be left to ask for the error of a job whose client has gone.
        self.done.add_done_callback(lambda done: done.cancelled() or done.exception())

    @property
    def key(self) -> Key:
        """What its pictures share with others of a batch."""
        return self.order.model.name, self.order.chosen.graph.file

    @property
    def waiting(self) -> int:
        """Pictures that are not taken yet."""
        return 0 if self.done.done() else len(self.order.shots) - self.taken

    @property
    def unfinished(self) -> int:
        """Pictures that are not drawn yet."""
        return 0 if self.done.done() else len(self.order.shots) - len(self.images)

    def deliver(self, index: int, image: Image.Image) -> None:
        """Add a picture; the last one completes the job. Pictures of a job that was given up are dropped."""
        self.images[index] = image
        if not self.done.done() and len(self.images) == len(self.order.shots):
            started = self.started or self.arrived
            drawn = [self.images[at] for at in range(len(self.images))]
            now = time.perf_counter()
            self.done.set_result(Drawn(drawn, 1000 * (started - self.arrived), 1000 * (now - started)))

    def fail(self, error: Exception) -> None:
        """Answer the job with an error, unless it is answered already."""
        if not self.done.done():
            self.done.set_exception(error)


@dataclass(frozen=True)
class Piece:
    """One picture of a job, on its way through a batch."""

    job: Job
    index: int

    @property
    def shot(self) -> Shot:
        """What to draw."""
        return self.job.order.shots[self.index]


class Queue:
    """Jobs that wait, bounded by the number of pictures that were accepted and are not answered."""

    def __init__(self, limit: Callable[[], int], rate: Callable[[], float]) -> None:
        self._limit, self._rate = limit, rate
        self._jobs: list[Job] = []
        self._running: list[Job] = []
        self._held = 0
        """Pictures of requests that are being read, scored or encoded."""
        self._arrival = asyncio.Event()

    @property
    def waiting(self) -> int:
        """Pictures that wait."""
        return sum(job.waiting for job in self._jobs)

    @property
    def jobs_waiting(self) -> int:
        """Jobs of which no picture was begun."""
        return sum(not job.taken for job in self._jobs)

    @property
    def unfinished(self) -> int:
        """Pictures that were accepted and are not answered."""
        return self._held + sum(job.unfinished for job in {*self._jobs, *self._running})

    @contextmanager
    def holding(self, pictures: int) -> Iterator[None]:
        """Keep places for a request while it is being read. Raises Problem (429) as `put` does."""
        self._check_room(pictures)
        with self.keeping(pictures):
            yield

    @contextmanager
    def keeping(self, pictures: int) -> Iterator[None]:
        """Keep the places of pictures while something else than drawing is done for them."""
        self._held += pictures
        try:
            yield
        finally:
            self._held -= pictures

    def put(self, order: Order) -> Job:
        """Accept an order. Raises Problem (429) if it would make others wait for too long."""
        self._check_room(len(order.shots))
        job = Job(order)
        self._jobs.append(job)
        self._arrival.set()
        return job

    def replace(self, job: Job, order: Order) -> bool:
        """Give a job's place to another order, if none of its pictures was begun. Raises Problem (429)."""
        if job.taken or job.done.done():
            return False
        self._check_room(len(order.shots), besides=job.unfinished)
        job.order = order
        return True

    def withdraw(self, job: Job) -> None:
        """Give up a job: what waits is dropped, and what is being drawn will be."""
        job.done.cancel()
        if job in self._jobs:
            self._jobs.remove(job)

    async def arrival(self) -> None:
        """Wait until a picture waits."""
        while not self.waiting:
            self._arrival.clear()
            await self._arrival.wait()

    def head(self) -> Job:
        """The job that is next."""
        return next(job for job in self._jobs if job.waiting)

    def take(self, key: Key, sizes: Sequence[int]) -> list[Piece]:
        """Take the next batch of this key: as many pictures as wait, but only one of `sizes`."""
        jobs = [job for job in self._jobs if job.key == key]
        offered = sum(job.waiting for job in jobs)
        size = max((size for size in sizes if size <= offered), default=min(1, offered))
        pieces = [Piece(job, index) for job in jobs for index in range(job.taken, job.taken + job.waiting)][:size]
        self._mark(pieces)
        return pieces

    def _mark(self, pieces: Sequence[Piece]) -> None:
        now = time.perf_counter()
        for piece in pieces:
            piece.job.started = piece.job.started or now
            piece.job.taken += 1
        self._running = list(dict.fromkeys(piece.job for piece in pieces))
        self._jobs = [job for job in self._jobs if job.waiting]

    def settle(self) -> None:
        """Note that the batch which was taken last is done."""
        self._running = []

    def _check_room(self, pictures: int, besides: int = 0) -> None:
        ahead = self.unfinished - besides
        excess = ahead + pictures - self._limit()
        # A request that is larger than the queue is accepted where nobody else waits.
        if ahead and excess > 0:
            raise Problem(
                429,
                "queue-full",
                f"{ahead} of {self._limit()} places are taken, and this request needs {pictures}",
                "try again after the seconds of Retry-After, or ask for fewer pictures",
                retry_after=excess / self._rate(),
            )
