"""What stands before every route: names and origins, keys, request ids, and a line in the log."""

from __future__ import annotations

import base64
import binascii
import ipaddress
import logging
import re
import time
import uuid
from collections.abc import Container, Iterable
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from pahi_rt.serve.problems import Problem, internal
from pahi_rt.serve.replies import error_response
from pahi_rt.serve.service import Service

LOG = logging.getLogger("pahi_rt.serve")
ACCESS = logging.getLogger("pahi_rt.serve.access")
KEY_PROTOCOL = "pahi-key."
"""Before a key in base64url, as a subprotocol of the WebSocket: browsers cannot send it in another way."""
_REQUEST_ID = re.compile(r"[\w.:-]{1,128}", re.ASCII)
_LOOPBACK = ("localhost", "127.0.0.1", "::1")
_SAFE = ("GET", "HEAD", "OPTIONS")
_GONE = 499
_POLICY = 1008
"""The code of a WebSocket that is closed because its client may not use it (RFC 6455, 7.4.1)."""
_SHOWN = 200
"""Characters of a method and of a path that a line in the log holds."""


class Guard:
    """ASGI middleware around all routes."""

    def __init__(self, app: ASGIApp, service: Service, open_paths: Container[str]) -> None:
        """`open_paths` need no key. All other paths do, because a route takes more of them than it names: Starlette's
        `/metrics` takes `/metrics\\n` too."""
        self._app, self._service, self._open_paths = app, service, open_paths

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request that may not pass, and let all others through."""
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        reply = _Noted(scope, send)
        try:
            self._check(scope)
            await self._let_in(scope, receive, reply.send)
        except Exception as error:
            if reply.has_begun:
                raise
            problem = error if isinstance(error, Problem) else internal()
            if problem is not error:
                LOG.exception("request %s failed", reply.request_id)
            await error_response(problem, scope["path"], reply.request_id)(scope, receive, reply.send)
        finally:
            self._note(scope, reply)

    def _check(self, scope: Scope) -> None:
        settings, headers = self._service.settings, Headers(scope=scope)
        host = headers.get("host", "")
        # Without one comes HTTP/1.0 alone, which load balancers ask for health with, and no browser.
        if "host" in headers and not _is_known(host, settings.host, settings.is_local, settings.allow_hosts):
            fix = "call it by its address, or start it with --allow-host NAME"
            raise Problem(421, "unknown-host", "the server does not go by this name", fix)
        is_websocket = scope["type"] == "websocket"
        origin = headers.get("origin")
        if origin is not None and (is_websocket or scope["method"] not in _SAFE):
            _check_origin(origin, host, settings.allow_origins)
        self._check_key(scope)

    def _check_key(self, scope: Scope) -> None:
        if not self._service.keys.are_needed or scope["path"] in self._open_paths:
            return
        key = _read_key(Headers(scope=scope))
        if key is None or not self._service.keys.open_with(key):
            what = "this server needs an API key" if key is None else "this is not one of the server's API keys"
            raise Problem(401, "invalid_api_key", what, "send the header Authorization: Bearer KEY")

    async def _let_in(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let a request through. A WebSocket ends at its next message after its key was removed."""
        removed: list[Problem] = []

        async def receive_with_key() -> Message:
            message = await receive()
            if message["type"] == "websocket.receive":
                try:
                    self._check_key(scope)
                except Problem as problem:
                    removed.append(problem)
                    return {"type": "websocket.disconnect", "code": _POLICY}
            return message

        await self._app(scope, receive_with_key, send)
        for problem in removed:
            await send({"type": "websocket.close", "code": _POLICY, "reason": problem.detail})

    def _note(self, scope: Scope, reply: _Noted) -> None:
        seconds = time.perf_counter() - reply.began
        endpoint = scope.get("endpoint")
        route = getattr(endpoint, "__name__", "other") if endpoint else "other"
        self._service.metrics.answered(route, reply.status, seconds)
        method, path = scope.get("method", "WEBSOCKET"), scope["path"][:_SHOWN]
        ACCESS.info("%s %s %d %.0f ms %s", method[:_SHOWN], path, reply.status, 1000 * seconds, reply.request_id)


class _Noted:
    """A `send` that adds headers to the reply, and remembers its status."""

    def __init__(self, scope: Scope, send: Send) -> None:
        given = Headers(scope=scope).get("x-request-id", "")
        self.request_id = given if _REQUEST_ID.fullmatch(given) else uuid.uuid4().hex
        self.began = time.perf_counter()
        self.status = _GONE
        """The one of a client that left, unless a reply begins."""
        self._send = send
        scope.setdefault("state", {})["request_id"] = self.request_id

    @property
    def has_begun(self) -> bool:
        """Whether a part of the reply was sent, so that it is too late for another."""
        return self.status != _GONE

    async def send(self, message: Message) -> None:
        """Send a message of the reply."""
        if message["type"] in ("http.response.start", "websocket.http.response.start"):
            self.status = message["status"]
            headers = MutableHeaders(scope=message)
            headers["X-Request-Id"] = self.request_id
            headers.setdefault("X-Content-Type-Options", "nosniff")
            headers.setdefault("Cache-Control", "no-store")
        elif message["type"] == "websocket.accept":
            self.status = 101
            message["headers"] = [*message.get("headers", ()), (b"x-request-id", self.request_id.encode())]
        elif message["type"] == "websocket.close" and self.status != 101:
            self.status = 403  # what the server makes of it before the connection is accepted
        await self._send(message)


def _is_known(host: str, own: str, is_local: bool, allowed: Iterable[str]) -> bool:
    """Whether the service goes by this name. An address always passes: only names can be bent to lead here."""
    name = _name(host)
    listed = {allow.lower() for allow in allowed}
    if not is_local and not listed:
        return True
    return name in {*listed, own.lower(), *_LOOPBACK} or _is_address(name)


def _name(host: str) -> str:
    """The name or address in a Host header, without its port."""
    try:
        return (urlsplit(f"//{host}").hostname or "").lower()
    except ValueError:
        return ""


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def _check_origin(origin: str, host: str, allowed: Iterable[str]) -> None:
    """A page from elsewhere may neither draw here nor open a WebSocket, even if it could not read the reply."""
    if "*" in allowed or origin in allowed or origin.partition("://")[2].lower() == host.lower():
        return
    fix = "open the page of this server, or start it with --allow-origin ORIGIN"
    raise Problem(403, "unknown-origin", "pages of this origin may not use the server", fix)


def _read_key(headers: Headers) -> str | None:
    scheme, _, key = headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer" and key.strip():
        return key.strip()
    for protocol in headers.get("sec-websocket-protocol", "").split(","):
        if protocol.strip().startswith(KEY_PROTOCOL):
            return _decode(protocol.strip().removeprefix(KEY_PROTOCOL))
    return None


def _decode(text: str) -> str:
    try:
        return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)).decode()
    except (binascii.Error, ValueError):
        return ""
