"""WS /v1/live: pictures while somebody types. The latest request wins, and only within its own connection."""

from __future__ import annotations

import asyncio
import json
import logging
from dataclasses import dataclass
from functools import partial
from typing import Any

from starlette.websockets import WebSocket, WebSocketDisconnect

from pahi_rt.serve.problems import Problem, bad_request, internal
from pahi_rt.serve.queue import Job
from pahi_rt.serve.requests import LiveRequest, Order, order_live, read_body, read_id
from pahi_rt.serve.service import Service

LOG = logging.getLogger("pahi_rt.serve")
PROTOCOL = "pahi-live"
"""The subprotocol, for clients that offer some: a browser must be answered with one of those."""


@dataclass(frozen=True)
class _Wanted:
    """A request that has been checked."""

    id: int
    order: Order


async def live(websocket: WebSocket) -> None:
    """Serve one connection until its client leaves."""
    service: Service = websocket.app.state.service
    await websocket.accept(subprotocol=PROTOCOL if PROTOCOL in websocket.scope["subprotocols"] else None)
    session = Session(service, websocket)
    service.live += 1
    drawing = asyncio.create_task(session.draw())
    try:
        while (message := await websocket.receive())["type"] == "websocket.receive":
            await session.take(message.get("text"))
            await asyncio.sleep(0)  # many messages may have come at once; others have their turn between them
    except WebSocketDisconnect:
        pass
    finally:
        service.live -= 1
        drawing.cancel()
        session.close()
        service.answering.discard(session)


class Session:
    """One connection: at most one request is drawn, and one waits."""

    def __init__(self, service: Service, websocket: WebSocket) -> None:
        self._service, self._websocket = service, websocket
        self._current: _Wanted | None = None
        self._job: Job | None = None
        self._next: _Wanted | None = None
        self._arrival = asyncio.Event()
        self._sending = asyncio.Lock()

    async def take(self, text: str | None) -> None:
        """Take a message. What it makes obsolete is told so."""
        try:
            if text is None:
                raise bad_request("the message is binary", "send JSON as text")
            request = read_body(LiveRequest, text)
            self._service.engine.check_open()
            order = await self._service.read(partial(order_live, request))
            obsolete = self._place(_Wanted(request.id, order))
            self._service.answering.add(self)
        except Problem as problem:
            await self._say({"id": read_id(text or ""), "error": problem.brief()})
            return
        if obsolete is not None:
            self._service.metrics.superseded()
            await self._say({"id": obsolete.id, "superseded": True})

    async def draw(self) -> None:
        """Draw and answer what is wanted, one after the other."""
        while True:
            await self._arrival.wait()
            self._arrival.clear()
            self._current, self._next = self._next, None
            if self._current is None:
                continue
            try:
                await self._answer(self._current)
            except WebSocketDisconnect:
                return
            except Problem as problem:
                await self._say({"id": self._current.id, "error": problem.brief()})
            except Exception:
                LOG.exception("a live request failed")
                await self._say({"id": self._current.id, "error": internal().brief()})
            finally:
                self.close()
                if self._next is None:
                    self._service.answering.discard(self)

    def close(self) -> None:
        """Give up what is drawn or waits."""
        if self._job is not None:
            self._service.engine.queue.withdraw(self._job)
            self._job = None

    def _place(self, wanted: _Wanted) -> _Wanted | None:
        """Put a request where it is drawn next, and return the one that had this place. Raises Problem."""
        if self._job is not None and self._service.engine.queue.replace(self._job, wanted.order):
            # It keeps the place in the queue, so that who types fast still sees pictures.
            obsolete, self._current = self._current, wanted
            return obsolete
        obsolete, self._next = self._next, wanted
        self._arrival.set()
        return obsolete

    async def _answer(self, wanted: _Wanted) -> None:
        self._job = job = self._service.engine.submit(wanted.order)
        with self._service.replying(job) as making:
            await asyncio.wait([making], timeout=self._service.time_left(job))
            reply = self._service.result(making)
        answered = self._current or wanted  # a newer request may have taken the job's place
        async with self._sending:
            await self._websocket.send_text(json.dumps({"id": answered.id, **reply.describe()}))
            for file in reply.files:
                await self._websocket.send_bytes(file)

    async def _say(self, message: dict[str, Any]) -> None:
        async with self._sending:
            await self._websocket.send_text(json.dumps(message))
