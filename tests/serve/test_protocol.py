"""Connections that misbehave, on bare sockets."""

from __future__ import annotations

import socket
import time
from pathlib import Path

import pytest

from tests.serve.conftest import SECONDS, Running, until

HEAD = b"POST /v1/pictures HTTP/1.1\r\nHost: localhost\r\n"


def open_to(service: Running) -> socket.socket:
    return socket.create_connection(("127.0.0.1", service.client.port), timeout=SECONDS)


def rest(connection: socket.socket) -> bytes:
    """Everything until the service closes the connection."""
    received = b""
    try:
        while chunk := connection.recv(65536):
            received += chunk
    except ConnectionResetError:
        pass
    return received


@pytest.mark.parametrize("begin", [b"", b"G", b"GET / HTTP/1.1\r\nHost: loc"])
def test_slow_headers(gated: Running, monkeypatch: pytest.MonkeyPatch, begin: bytes) -> None:
    monkeypatch.setattr("pahi_rt.serve.protocol.HEADER_SECONDS", 0.3)
    with open_to(gated) as connection:
        connection.sendall(begin)
        assert rest(connection).startswith(b"HTTP/1.1 408 ")


def test_headers_that_trickle(gated: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pahi_rt.serve.protocol.HEADER_SECONDS", 0.5)
    with open_to(gated) as connection:
        began = time.monotonic()
        with pytest.raises(OSError):
            for _ in range(200):
                connection.sendall(b"G" if _ == 0 else b"E")
                time.sleep(0.05)
        assert time.monotonic() - began < 5


def test_a_second_request_must_come_in_time_too(gated: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pahi_rt.serve.protocol.HEADER_SECONDS", 0.3)
    with open_to(gated) as connection:
        for _ in range(2):
            connection.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
            received = b""
            while not received.endswith(b"}"):
                received += connection.recv(65536)
            assert received.startswith(b"HTTP/1.1 200 ")
            time.sleep(0.5)  # idle is allowed for longer
        connection.sendall(b"GET /heal")
        assert rest(connection).startswith(b"HTTP/1.1 408 ")


def test_a_slow_picture_is_no_slow_header(gated: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pahi_rt.serve.protocol.HEADER_SECONDS", 0.2)
    gated.gate.seconds = 0.6
    assert gated.client.draw(prompt="a cat").status == 200


def test_a_slow_body(gated: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pahi_rt.serve.replies.BODY_SECONDS", 0.3)
    with open_to(gated) as connection:
        connection.sendall(HEAD + b"Content-Length: 30\r\n\r\n{")
        reply = rest(connection)
    assert reply.startswith(b"HTTP/1.1 408 ") and b"problem+json" in reply


def test_a_body_that_says_it_is_too_large(gated: Running) -> None:
    with open_to(gated) as connection:
        connection.sendall(HEAD + b"Content-Length: 2000000\r\n\r\n{")
        assert rest(connection).startswith(b"HTTP/1.1 413 ")


def test_a_body_that_turns_out_too_large(gated: Running) -> None:
    with open_to(gated) as connection:
        connection.sendall(HEAD + b"Transfer-Encoding: chunked\r\n\r\n")
        chunk = b"10000\r\n" + b" " * 65536 + b"\r\n"
        with pytest.raises(OSError):
            for _ in range(1000):
                connection.sendall(chunk)
            raise ConnectionError(rest(connection))


def test_too_many_connections(gated: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pahi_rt.serve.protocol.MOST_CONNECTIONS", 5)
    held = [open_to(gated) for _ in range(5)]
    until(lambda: len(gated.server.server_state.connections) == 5)
    with open_to(gated) as connection:
        assert rest(connection).startswith(b"HTTP/1.1 503 ")
    for connection in held:
        connection.close()
    until(lambda: not gated.server.server_state.connections)
    assert gated.client.draw(prompt="a cat").status == 200


@pytest.mark.parametrize("raw", [b"\r\n\r\n\r\n", b"\x16\x03\x01\x02\x00", b"GET / HTTP/9.9\r\n\r\n", b"A" * 70_000])
def test_what_is_no_http(gated: Running, raw: bytes) -> None:
    with open_to(gated) as connection:
        connection.sendall(raw + b"\r\n\r\n")
        reply = rest(connection)
    assert b"uvicorn" not in reply.lower() and b"Traceback" not in reply
    assert gated.client.draw(prompt="a cat").status == 200


def test_clients_that_come_and_go(gated: Running) -> None:
    for number in range(60):
        with open_to(gated) as connection:
            connection.sendall((HEAD + b'Content-Length: 18\r\n\r\n{"prompt": "a cat"}')[: 7 * number])
    until(lambda: not gated.unfinished and not gated.server.server_state.connections)
    assert gated.client.draw(prompt="a cat").status == 200


def test_a_reply_names_no_software(gated: Running) -> None:
    assert "server" not in gated.client("GET", "/healthz").headers


def test_half_a_page(bundles: tuple[Path, Path]) -> None:
    with Running(*bundles) as service:
        reply = service.client("GET", "/")
        assert reply.headers["content-security-policy"].startswith("default-src 'self'")
        again = service.client("GET", "/", headers={"If-None-Match": reply.headers["etag"]})
        assert (again.status, again.body) == (304, b"")
        for path in ("/../pahi.json", "/%2e%2e/pahi.json", "/__init__.py", "//etc/passwd"):
            assert service.client("GET", path).status in (400, 404)
