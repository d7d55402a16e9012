"""Connections that misbehave, on bare sockets."""

from __future__ import annotations

import http.client
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


def test_a_body_that_says_it_is_too_large(gated: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pahi_rt.serve.replies.BODY_SECONDS", 0.3)
    for more, left in ((b"", b"{"), (b"Expect: 100-continue\r\n", b"")):
        with open_to(gated) as connection:
            connection.sendall(HEAD + more + b"Content-Length: 2000000\r\n\r\n" + left)
            assert rest(connection).startswith(b"HTTP/1.1 413 ")


@pytest.mark.parametrize("encode_chunked", [False, True])
def test_a_client_that_sends_all_of_a_large_body_reads_the_answer(gated: Running, encode_chunked: bool) -> None:
    """http.client, and all that is built on it, looks for an answer only then."""
    body = (b" " * 65536 for _ in range(100))
    headers = {"Transfer-Encoding": "chunked"} if encode_chunked else {"Content-Length": str(100 * 65536)}
    connection = http.client.HTTPConnection("127.0.0.1", gated.client.port, timeout=SECONDS)
    connection.request("POST", "/v1/pictures", body, headers, encode_chunked=encode_chunked)
    assert connection.getresponse().status == 413
    connection.close()


def test_a_body_without_end(gated: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pahi_rt.serve.replies.BODY_SECONDS", 0.3)
    with open_to(gated) as connection, pytest.raises(OSError):
        connection.sendall(HEAD + b"Transfer-Encoding: chunked\r\n\r\n")
        while True:
            connection.sendall(b"10000\r\n" + b" " * 65536 + b"\r\n")


def test_a_client_that_leaves_amid_its_body_is_no_error(gated: Running, caplog: pytest.LogCaptureFixture) -> None:
    with open_to(gated) as connection:
        connection.sendall(HEAD + b"Content-Length: 30\r\n\r\n{")
        until(lambda: bool(gated.server.server_state.tasks))
    until(lambda: not gated.server.server_state.tasks)
    assert [record for record in caplog.records if record.levelname == "ERROR"] == []
    assert gated.client.metric("pahi_requests_total") >= 1


def test_a_bug_in_a_route_is_answered_under_its_id(
    gated: Running, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*arguments: object) -> None:
        raise ZeroDivisionError("in /home/me/file.py")

    monkeypatch.setattr("pahi_rt.bundle.Bundle.read", fail)
    reply = gated.client("GET", "/v1/models/contract/vocabulary", headers={"X-Request-Id": "seen"})
    assert (reply.status, reply.headers["x-request-id"], reply.json["request_id"]) == (500, "seen", "seen")
    assert b"file.py" not in reply.body
    assert "seen" in caplog.text and "file.py" in caplog.text
    assert b'pahi_requests_total{route="vocabulary",status="500"} 1.0' in gated.client("GET", "/metrics").body


def test_what_is_repeated_is_cut(gated: Running) -> None:
    long = "x" * 100_000
    for body in ({long: 1}, {"prompt": "a", "prior": long}, {"prompt": "a", "model": long}):
        reply = gated.client.draw(**body)
        assert reply.status in (400, 404) and len(reply.body) < 2000
    assert len(gated.client.post("/v1/images/generations", prompt="a", size=long).body) < 2000


def test_a_slash_too_many_leads_nowhere(gated: Running) -> None:
    reply = gated.client("GET", "/v1/models/", headers={"Host": "localhost"})
    assert (reply.status, reply.headers["location"]) == (404, None)


def test_who_reads_no_pongs_can_send_no_more_pings(gated: Running) -> None:
    ask = b"GET /v1/live HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    ping = b"\x89\xfd\0\0\0\0" + b"a" * 125
    with open_to(gated) as connection:
        connection.sendall(ask + b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n")
        assert connection.recv(65536).startswith(b"HTTP/1.1 101 ")
        connection.settimeout(1)
        with pytest.raises(TimeoutError):
            for _ in range(400):
                connection.sendall(ping * 1000)
    assert gated.client.draw(prompt="a cat").status == 200


def test_a_compressed_body(gated: Running) -> None:
    reply = gated.client("POST", "/v1/pictures", b"\x1f\x8b\x08", headers={"Content-Encoding": "gzip"})
    assert (reply.status, reply.json["type"]) == (415, "urn:pahi-rt:problem:encoded")


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
