"""Metrics for Prometheus. Names follow those that servers of pictures have begun to share."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector

from pahi_rt.errors import PahiError
from pahi_rt.serve.limits import BATCH_SIZES

FOLDER = "PROMETHEUS_MULTIPROC_DIR"
"""Names the folder that several workers share. prometheus_client reads it once, when it is imported."""
_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
_SUMS = {
    "num_requests_waiting": "Requests of which no picture was begun.",
    "num_images_waiting": "Pictures that wait.",
    "queue_limit_images": "Pictures that may be accepted and not drawn.",
    "images_per_second": "How fast pictures are drawn, lately.",
    "live_connections": "Open connections to /v1/live.",
}
_WORST = {"queue_wait_estimate_seconds": "How long a picture that came now would wait, in the slowest worker."}


@contextmanager
def _in_folder() -> Iterator[None]:
    """Make the folder, if the environment names one: prometheus_client writes a file there for each metric."""
    try:
        if FOLDER in os.environ:
            os.makedirs(os.environ[FOLDER], exist_ok=True)
        yield
    except OSError as error:
        what = f"{FOLDER} names {os.environ.get(FOLDER)!r}, where no metrics can be written: {error.strerror or error}"
        raise PahiError(what, fix=f"name another folder, or unset {FOLDER}: --workers needs none") from error


class Metrics:
    """What one process counts; `are_shared`, what all workers do. Raises PahiError if it cannot be written."""

    def __init__(self, *, are_shared: bool = False) -> None:
        self._are_shared = are_shared
        with _in_folder():
            self._define()

    def _define(self) -> None:
        self._registry = registry = CollectorRegistry()
        self._requests = Counter("pahi_requests", "Requests answered.", ["route", "status"], registry=registry)
        self._request_seconds = Histogram(
            "pahi_request_seconds", "Time to answer a request.", ["route"], buckets=_SECONDS, registry=registry
        )
        self._queue_wait = Histogram(
            "pahi_request_queue_wait_seconds", "Wait in the queue.", ["model"], buckets=_SECONDS, registry=registry
        )
        self._stage = Histogram(
            "pahi_stage_seconds",
            "Time of a stage (tokenise, run, score, encode) of a request.",
            ["stage"],
            buckets=_SECONDS,
            registry=registry,
        )
        self._batch = Histogram(
            "pahi_batch_size", "Pictures in a batch.", ["model"], buckets=BATCH_SIZES, registry=registry
        )
        self._drawing = Counter("pahi_batch_seconds", "Time spent drawing.", ["model"], registry=registry)
        self._images = Counter("pahi_images", "Pictures answered.", ["model"], registry=registry)
        self._pixels = Counter("pahi_image_pixels", "Pixels of these pictures.", ["model"], registry=registry)
        self._superseded = Counter("pahi_superseded", "Live requests that a newer one replaced.", registry=registry)
        self._gauges = {
            **{name: _gauge(name, text, "livesum", registry) for name, text in _SUMS.items()},
            **{name: _gauge(name, text, "livemax", registry) for name, text in _WORST.items()},
        }

    def answered(self, route: str, status: int, seconds: float) -> None:
        """Count a request."""
        self._requests.labels(route, str(status)).inc()
        self._request_seconds.labels(route).observe(seconds)

    def drawn(self, model: str, pictures: int, seconds: float) -> None:
        """Count a batch."""
        self._batch.labels(model).observe(pictures)
        self._drawing.labels(model).inc(seconds)

    def served(self, model: str, pictures: int, pixels: int, timing: Mapping[str, float]) -> None:
        """Count an order that was answered; `timing` has queue_ms and the stages' times."""
        self._images.labels(model).inc(pictures)
        self._pixels.labels(model).inc(pictures * pixels)
        self._queue_wait.labels(model).observe(timing["queue_ms"] / 1000)
        for name, milliseconds in timing.items():
            if name != "queue_ms":
                self._stage.labels(name.removesuffix("_ms")).observe(milliseconds / 1000)

    def superseded(self) -> None:
        """Count a live request that was replaced before it was drawn."""
        self._superseded.inc()

    def state(self, **values: float) -> None:
        """Note the state of this process: a value for each name of a gauge."""
        for name, value in values.items():
            self._gauges[name].set(value)

    def render(self) -> bytes:
        """Everything as text, of all workers together if they are shared.

        A folder that the environment names may hold the numbers of processes that have ended.
        """
        if not self._are_shared:
            return generate_latest(self._registry)
        together = CollectorRegistry()
        MultiProcessCollector(together)  # type: ignore[no-untyped-call]
        return generate_latest(together)


def _gauge(name: str, text: str, mode: str, registry: CollectorRegistry) -> Gauge:
    return Gauge(f"pahi_{name}", text, registry=registry, multiprocess_mode=mode)  # type: ignore[arg-type]
