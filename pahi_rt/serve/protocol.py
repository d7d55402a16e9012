"""HTTP/1.1 and WebSockets as uvicorn speaks them, with limits that it lacks: on slow headers, on connections, and on
what is written for who does not read."""

from __future__ import annotations

import asyncio

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

from pahi_rt.serve.limits import HEADER_SECONDS, MOST_CONNECTIONS

_REPLY = b"HTTP/1.1 %s\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
_TOO_SLOW = _REPLY % b"408 Request Timeout"
_TOO_MANY = _REPLY % b"503 Service Unavailable"


class Protocol(H11Protocol):
    """One connection."""

    _deadline: asyncio.TimerHandle | None = None

    @property
    def is_busy(self) -> bool:
        """Whether its client waits for an answer, or is about to ask for the first time."""
        return self.cycle is None or not self.cycle.response_complete

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin, or end at once if there are too many."""
        super().connection_made(transport)
        if len(self.connections) > MOST_CONNECTIONS:
            self._refuse(_TOO_MANY)
        else:
            self._watch()

    def data_received(self, data: bytes) -> None:
        """Read what has come. A request whose headers began must end them in time."""
        super().data_received(data)
        if self.conn.their_state is not h11.IDLE:
            self._relax()
        elif self._deadline is None and not self.transport.is_closing():
            self._watch()

    def connection_lost(self, exc: Exception | None) -> None:
        """End."""
        self._relax()
        super().connection_lost(exc)

    def _watch(self) -> None:
        self._deadline = self.loop.call_later(HEADER_SECONDS, self._refuse, _TOO_SLOW)

    def _relax(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _refuse(self, reply: bytes) -> None:
        self._deadline = None
        if not self.transport.is_closing():
            self.transport.write(reply)
            self.transport.close()


class LiveProtocol(WebSocketsSansIOProtocol):
    """One WebSocket. Pings are read only as fast as their answers can be written."""

    def handle_ping(self) -> None:
        """Answer a ping."""
        super().handle_ping()
        if not self.writable.is_set():
            self.transport.pause_reading()

    def resume_writing(self) -> None:
        """Go on, now that the client has read."""
        super().resume_writing()
        if not self.read_paused:
            self.transport.resume_reading()
