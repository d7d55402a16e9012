"""One process of the service: a listening socket, the application, and an orderly end."""

from __future__ import annotations

import asyncio
import logging
import math
import signal
import socket
import time
from types import FrameType

from uvicorn import Config
from uvicorn import Server as Uvicorn

from pahi_rt.errors import PahiError
from pahi_rt.pipeline import Pipeline
from pahi_rt.serve.app import make_app
from pahi_rt.serve.limits import IDLE_SECONDS, LARGEST_MESSAGE
from pahi_rt.serve.models import Model, Models
from pahi_rt.serve.protocol import LiveProtocol, Protocol
from pahi_rt.serve.qualified import check_reports, load_qualified
from pahi_rt.serve.service import Service
from pahi_rt.serve.settings import Settings
from pahi_rt.serve.sharing import Door, Share
from pahi_rt.serve.signals import take_sighup

LOG = logging.getLogger("pahi_rt.serve")
_BACKLOG = 1024
"""Connections that the system holds until a worker accepts them."""
_LINGER = 0.2
"""Seconds before the end of the grace in which those who still wait are answered, and after which work that does not
end is left behind."""


def open_models(settings: Settings) -> Models:
    """Open the bundles. Raises BundleError, and RuntimeUnavailable for one that must be qualified and is not."""
    models = Models([Model.open(place, settings) for place in settings.bundles])
    if settings.qualified:
        check_reports(models, settings.reports)
    return models


def listen(settings: Settings) -> socket.socket:
    """The listening socket. Raises PahiError if the address cannot be had."""
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((settings.host, settings.port))
    except (OSError, OverflowError) as error:
        listener.close()
        reason = getattr(error, "strerror", None) or str(error)
        what = f"the service cannot listen on {settings.host} port {settings.port}: {reason}"
        raise PahiError(
            what, fix="choose another one with --host and --port; --port 0 takes any that is free"
        ) from error
    listener.listen(_BACKLOG)
    return listener


def serve(
    models: Models,
    settings: Settings,
    listener: socket.socket,
    share: Share | None = None,
    parent: int | None = None,
) -> bool:
    """Serve until SIGTERM or SIGINT. Raises PahiError if a model cannot be loaded.

    `share` is the place among several workers. `parent` is a file descriptor that becomes readable when the supervisor
    is gone; then this process ends as well.
    Returns whether all threads are done. One that loads, draws or scores cannot be interrupted. If one is left, use
    os._exit: Python would wait for it.
    """
    service = Service.of(models, settings, load_qualified(settings.reports) if settings.qualified else Pipeline.open)
    server = Server(service, share)
    asyncio.run(_run(server, listener, parent))
    if server.failure is not None:
        raise server.failure
    ends = time.perf_counter() + _LINGER
    while service.is_busy and time.perf_counter() < ends:
        time.sleep(_LINGER / 10)
    return not service.is_busy


async def _run(server: Server, listener: socket.socket, parent: int | None) -> None:
    loop = asyncio.get_running_loop()
    if hasattr(signal, "SIGHUP"):
        loop.add_signal_handler(signal.SIGHUP, server.service.keys.reload)
        take_sighup()
    if parent is not None:
        loop.add_reader(parent, server.orphan, parent)
    await server.serve([listener])


class Server(Uvicorn):
    """uvicorn's server, with an end that finishes what was accepted while it tells others to go elsewhere."""

    def __init__(self, service: Service, share: Share | None = None) -> None:
        self.service, self._share = service, share
        self.failure: BaseException | None = None
        """What has ended the engine."""
        self._ends: float | None = None
        config = Config(
            make_app(service, failed=self._fail),
            http=Protocol,
            ws=LiveProtocol,
            ws_max_size=LARGEST_MESSAGE,
            ws_per_message_deflate=False,
            lifespan="on",
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,
            timeout_keep_alive=IDLE_SECONDS,
            backlog=_BACKLOG,
        )
        super().__init__(config)

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Listen, and share what comes with the other workers if there are any."""
        await super().startup(sockets)
        if self._share is not None:
            for listener in sockets or []:
                Door(listener, self._share, lambda: self.load, self._begin).open()

    @property
    def load(self) -> float:
        """What there is to do: pictures, and requests that were not answered. Infinite while it loads or ends."""
        if self.service.engine.is_draining or not self.service.engine.is_ready:
            return math.inf
        busy = sum(isinstance(one, Protocol) and one.is_busy for one in self.server_state.connections)
        return self.service.engine.queue.unfinished + busy

    def _begin(self) -> Protocol:
        return Protocol(config=self.config, server_state=self.server_state, app_state=self.lifespan.state)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Begin to end at the first signal. A second Ctrl-C ends at once."""
        if self._ends is None:
            self._drain()
        elif sig == signal.SIGINT:
            self.should_exit = self.force_exit = True

    def orphan(self, parent: int) -> None:
        """End, since the supervisor is gone."""
        asyncio.get_running_loop().remove_reader(parent)
        if self._ends is None:
            self._drain()

    async def on_tick(self, counter: int) -> bool:
        """Whether to end now: when all that was accepted is drawn and answered, or the grace is over.

        uvicorn waits for HTTP's answers, and closes WebSockets at once.
        """
        if self._ends is not None:
            left = self._ends - time.monotonic()
            if left < _LINGER:
                self.service.give_up()
            if left < 0 or not (self.service.engine.queue.unfinished or self.service.answering):
                # uvicorn hands it to asyncio, which takes fractions of a second too.
                self.config.timeout_graceful_shutdown = max(0.0, left)  # type: ignore[assignment]
                self.should_exit = True
        return await super().on_tick(counter)

    def _drain(self) -> None:
        LOG.info("shutting down: %d pictures to finish", self.service.engine.queue.unfinished)
        self.service.engine.is_draining = True
        self._ends = time.monotonic() + self.service.settings.grace

    def _fail(self, error: BaseException) -> None:
        self.failure = error
        self.should_exit = True
