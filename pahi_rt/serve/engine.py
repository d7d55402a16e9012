"""The engine: takes batches from the queue and draws them, in one thread that owns every loaded graph."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from typing import TypeVar

import numpy as np
from PIL import Image

from pahi_rt.choice import Chosen
from pahi_rt.errors import PahiError
from pahi_rt.pipeline import Pipeline
from pahi_rt.serve.limits import LARGEST_QUEUE
from pahi_rt.serve.measure import Batching, measure
from pahi_rt.serve.metrics import Metrics
from pahi_rt.serve.models import Model, Models
from pahi_rt.serve.pool import Pool
from pahi_rt.serve.problems import cannot_draw, draining, internal, loading
from pahi_rt.serve.queue import Job, Key, Piece, Queue
from pahi_rt.serve.requests import Order
from pahi_rt.serve.settings import Settings

LOG = logging.getLogger("pahi_rt.serve")
_LATEST = 0.1
"""Weight of the latest batch in the mean time of a picture."""

T = TypeVar("T")
Load = Callable[[Chosen], Pipeline]
"""Loads what was chosen. Raises BundleError, RuntimeUnavailable."""


class Engine:
    """The models, loaded as they are asked for, and the queue in front of them."""

    def __init__(self, models: Models, settings: Settings, metrics: Metrics, load: Load) -> None:
        self.models, self._settings, self._metrics, self._load = models, settings, metrics, load
        self.queue = Queue(lambda: self.limit, lambda: self.rate)
        self.ready = asyncio.Event()
        """Set once every model has drawn."""
        self.is_draining = False
        self.thread = Pool(1, "draw")
        self._pipelines: dict[Key, Pipeline] = {}
        self._batching: dict[Key, Batching] = {}
        self._seconds = 1.0
        """Per picture, lately."""
        self._began: float | None = None

    @property
    def is_ready(self) -> bool:
        """Whether every model has drawn."""
        return self.ready.is_set()

    @property
    def rate(self) -> float:
        """Pictures per second, lately."""
        return 1 / self._seconds

    @property
    def limit(self) -> int:
        """Pictures that may be accepted and not answered."""
        return self._settings.queue or max(1, int(min(LARGEST_QUEUE, self._settings.patience * self.rate)))

    @property
    def busy_seconds(self) -> float:
        """Seconds since the batch that is being drawn was begun; 0 if there is none."""
        return 0.0 if self._began is None else time.perf_counter() - self._began

    def submit(self, order: Order) -> Job:
        """Accept an order. Raises Problem: 503 while it loads or shuts down, 429 if the queue is full."""
        self.check_open()
        return self.queue.put(order)

    def check_open(self) -> None:
        """Raises Problem (503) while nothing is accepted."""
        if self.is_draining:
            raise draining()
        if not self.is_ready:
            raise loading()

    async def run(self) -> None:
        """Warm up, then draw until cancelled. Raises PahiError if a model cannot be loaded."""
        self._seconds = max([await self._warm_up(model) for model in self.models])
        self.ready.set()
        LOG.info("ready: %.3g pictures/s, up to %d accepted at once", self.rate, self.limit)
        while True:
            await self.queue.arrival()
            await self._draw_next()

    async def _warm_up(self, model: Model) -> float:
        """Load what most requests will ask for, and return its seconds per picture."""
        chosen = model.choose()
        key = model.name, chosen.graph.file
        await self._load_once(key, chosen)
        return self._batching[key].seconds

    async def _load_once(self, key: Key, chosen: Chosen) -> None:
        """Load a graph and measure its batches, if that was not done yet."""
        if key in self._batching:
            return
        started = time.perf_counter()
        pipeline = await self._in_thread(lambda: self._load(chosen))
        loaded = time.perf_counter() - started
        batching = await self._in_thread(lambda: measure(pipeline, chosen, self._settings.batch))
        self._pipelines[key], self._batching[key] = pipeline, batching
        LOG.info("%s: %s, loaded in %.1f s on %s", *key, loaded, pipeline.runtime.describe()["runtime"])
        LOG.info("%s: %s", key[0], batching.describe())

    async def _draw_next(self) -> None:
        job = self.queue.head()
        key = job.key
        try:
            await self._load_once(key, job.order.chosen)
        except Exception as error:
            self._fail(self.queue.take(key, [1]), error)
            return
        pieces = self.queue.take(key, self._batching[key].sizes)
        if pieces:
            await self._draw(key, pieces)
            self.queue.settle()

    async def _draw(self, key: Key, pieces: Sequence[Piece]) -> None:
        """Draw a batch. If it fails, each picture is tried alone, so that none fails for another's sake."""
        started = self._began = time.perf_counter()
        try:
            images = await self._in_thread(lambda: _draw(self._pipelines[key], pieces))
        except Exception as error:
            if len(pieces) == 1:
                self._fail(pieces, error)
                return
            for piece in pieces:
                await self._draw(key, [piece])
            return
        finally:
            self._began = None
        self._note(key, pieces, time.perf_counter() - started)
        for piece, image in zip(pieces, images, strict=True):
            piece.job.deliver(piece.index, image)

    def _note(self, key: Key, pieces: Sequence[Piece], seconds: float) -> None:
        self._seconds += _LATEST * (seconds / len(pieces) - self._seconds)
        self._metrics.drawn(key[0], len(pieces), seconds)

    def _fail(self, pieces: Sequence[Piece], error: Exception) -> None:
        known = isinstance(error, PahiError)
        LOG.warning("a picture cannot be drawn: %s", error, exc_info=None if known else error)
        for piece in pieces:
            piece.job.fail(cannot_draw() if known else internal())

    async def _in_thread(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self.thread, work)


def _draw(pipeline: Pipeline, pieces: Sequence[Piece]) -> list[Image.Image]:
    orders = [piece.job.order for piece in pieces]
    shots = [piece.shot for piece in pieces]
    ids = np.stack([order.input_ids[shot.index] for order, shot in zip(orders, shots, strict=True)])
    return pipeline.draw(ids, [shot.seed for shot in shots], [shot.strength for shot in shots])
