"""One listening socket and several workers: who connects is taken by the worker that has least to do.

The system wakes every worker that waits for a connection, and any of them may be the first to accept it. So one whose
queue is full would answer 429 while another has room. Each worker notes what it has to do in memory that all share,
and leaves connections alone while another has less.
"""

from __future__ import annotations

import asyncio
import logging
import math
import multiprocessing
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

LOG = logging.getLogger("pahi_rt.serve")
_NOTED_EVERY = 0.02
"""Seconds between two notes of a worker."""
_ALIVE = 1.0
"""Seconds without a note after which a worker does not count: it is stuck, or has ended."""
_LATER = 0.005
"""Seconds after which a worker that has left a connection to others looks whether it is still there."""
_FULL = 1.0
"""The same where the system has no room for another connection."""


class Loads:
    """What each worker has to do. It can be handed to a process that is started."""

    def __init__(self, workers: int) -> None:
        self._noted: Any = multiprocessing.get_context("spawn").RawArray("d", [math.inf, 0.0] * workers)

    def note(self, place: int, load: float) -> None:
        """Note what the worker at this place has to do now."""
        self._noted[2 * place : 2 * place + 2] = [load, time.monotonic()]

    def is_open(self, place: int) -> bool:
        """Whether the worker at this place has noted last that it takes work: it neither loads nor ends."""
        return math.isfinite(self._noted[2 * place])

    def forget(self, place: int) -> None:
        """Note that the worker at this place has ended."""
        self._noted[2 * place : 2 * place + 2] = [math.inf, 0.0]

    def least(self) -> float:
        """The least that a worker has to do; infinite if none is alive."""
        since = time.monotonic() - _ALIVE
        noted = zip(self._noted[::2], self._noted[1::2], strict=True)
        return min((load for load, at in noted if at > since), default=math.inf)


@dataclass(frozen=True)
class Share:
    """One worker's place among them."""

    loads: Loads
    place: int


class Door:
    """Accepts connections in place of asyncio's server, one at a time, while no other worker has less to do."""

    def __init__(
        self, listener: socket.socket, share: Share, load: Callable[[], float], protocol: Callable[[], asyncio.Protocol]
    ) -> None:
        self._listener, self._share, self._load, self._protocol = listener, share, load, protocol
        self._loop = asyncio.get_running_loop()
        self._opening: set[asyncio.Task[Any]] = set()
        """Connections that were accepted, and whose protocol is not there yet."""

    def open(self) -> None:
        """Begin to accept. asyncio's own server closes the socket at the end, and then nobody accepts any more."""
        self._loop.remove_reader(self._listener)
        self._watch()
        self._keep_noting()

    def _watch(self) -> None:
        if self._listener.fileno() >= 0:
            self._loop.add_reader(self._listener, self._knocked)

    def _leave(self, seconds: float) -> None:
        self._loop.remove_reader(self._listener)
        self._loop.call_later(seconds, self._watch)

    def _knocked(self) -> None:
        if self._note() > self._share.loads.least():
            self._leave(_LATER)
            return
        try:
            connection, _ = self._listener.accept()
        except (BlockingIOError, InterruptedError, ConnectionAbortedError):
            return  # another worker was faster, or the client has left
        except OSError as error:
            LOG.warning("no connection can be accepted: %s", error.strerror)
            self._leave(_FULL)
            return
        connection.setblocking(False)
        opening = self._loop.create_task(self._loop.connect_accepted_socket(self._protocol, connection))
        self._opening.add(opening)
        opening.add_done_callback(self._opened)
        self._note()

    def _opened(self, opening: asyncio.Task[Any]) -> None:
        self._opening.discard(opening)
        if not opening.cancelled() and (error := opening.exception()):
            LOG.warning("a connection cannot be opened: %s", error)

    def _note(self) -> float:
        load = self._load() + len(self._opening)
        self._share.loads.note(self._share.place, load)
        return load

    def _keep_noting(self) -> None:
        if self._listener.fileno() >= 0:
            self._note()
            self._loop.call_later(_NOTED_EVERY, self._keep_noting)
