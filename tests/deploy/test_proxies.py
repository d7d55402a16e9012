"""deploy/nginx.conf and deploy/Caddyfile in front of a running service: what it says and does passes through."""

from __future__ import annotations

import http.client
import json
import re
import shutil
import socket
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from websockets.sync.client import connect

from pahi_rt.serve.limits import DEADLINE, LARGEST_BODY
from tests.deploy.conftest import DEPLOY, NAME, check, free_port, nginx_words, tool
from tests.serve.conftest import SECONDS, Client, Running, until


def test_nginx_takes_the_whole_file(tmp_path: Path) -> None:
    """With TLS, which the tests below leave out."""
    tool("nginx")
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("openssl is not installed")
    key, pem = tmp_path / "key", tmp_path / "pem"
    check(openssl, "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", f"/CN={NAME}", "-keyout", key, "-out", pem)
    site = (DEPLOY / "nginx.conf").read_text()
    site = site.replace(f"/etc/ssl/private/{NAME}.key", str(key)).replace(f"/etc/ssl/{NAME}.pem", str(pem))
    site = re.sub(r"listen (.*)443 ssl", rf"listen \g<1>{free_port()} ssl", site)  # 443 is root's
    said = check(*nginx_words(site, tmp_path), "-t")
    assert "warn" not in said, said


def test_caddy_takes_the_whole_file() -> None:
    said = check(tool("caddy"), "validate", "--adapter", "caddyfile", "--config", DEPLOY / "Caddyfile")
    assert '"level":"warn"' not in said, said


def test_a_picture(front: Client, gated: Running) -> None:
    direct = gated.client.draw(prompt="a cat", seed=7)
    reply = front.draw({"Host": NAME, "X-Request-Id": "mine"}, prompt="a cat", seed=7)
    assert (reply.status, reply.body) == (200, direct.body)
    assert (reply.headers["X-Seed"], reply.headers["X-Request-Id"]) == ("7", "mine")
    assert "queue" in reply.headers["Server-Timing"]


def test_the_service_sees_the_name_that_the_client_used(front: Client) -> None:
    assert front.draw({"Host": "other.example"}, prompt="a cat").status == 421
    assert front.draw({"Origin": f"http://127.0.0.1:{front.port}"}, prompt="a cat").status == 200
    assert front.draw({"Origin": "http://other.example"}, prompt="a cat").status == 403


def test_live_pictures(front: Client) -> None:
    """From a page of the same origin; each message arrives before the next is asked for."""
    origin: Any = f"http://127.0.0.1:{front.port}"
    with connect(f"ws://127.0.0.1:{front.port}/v1/live", origin=origin, compression=None) as socket:
        for number in range(3):
            socket.send(json.dumps({"id": number, "prompt": "a cat"}))
            assert json.loads(socket.recv(SECONDS))["id"] == number
            assert isinstance(socket.recv(SECONDS), bytes)


def test_a_full_queue(front: Client, gated: Running) -> None:
    with ThreadPoolExecutor() as threads:
        gated.gate.open.clear()
        waiting = threads.submit(front.draw, prompt="a cat", count=3)
        until(lambda: gated.unfinished == 3)
        refused = front.draw(prompt="a dog")
        gated.gate.open.set()
        assert waiting.result().status == 200
    assert (refused.status, refused.json["type"]) == (429, "urn:pahi-rt:problem:queue-full")
    assert int(refused.headers["Retry-After"]) >= 1


def test_who_leaves_frees_the_place(front: Client, gated: Running) -> None:
    with ThreadPoolExecutor() as threads:
        gated.gate.open.clear()
        first = threads.submit(front.draw, prompt="a cat")
        until(lambda: gated.unfinished == 1 and not gated.waiting)
        connection = http.client.HTTPConnection("127.0.0.1", front.port)
        connection.request("POST", "/v1/pictures", json.dumps({"prompt": "a dog", "count": 2}))
        until(lambda: gated.unfinished == 3)
        connection.close()
        until(lambda: gated.unfinished == 1)
        gated.gate.open.set()
        assert first.result().status == 200


def test_a_stream_is_not_held_back(front: Client, gated: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pahi_rt.serve.openai.SILENT_SECONDS", 0.05)
    gated.gate.open.clear()
    connection = http.client.HTTPConnection("127.0.0.1", front.port, timeout=SECONDS)
    try:
        connection.request("POST", "/v1/images/generations", json.dumps({"prompt": "a cat", "stream": True}))
        response = connection.getresponse()
        assert response.readline().startswith(b":")
        gated.gate.open.set()
        assert b"image_generation.completed" in response.read()
    finally:
        connection.close()


def test_a_body_that_is_too_large(front: Client, gated: Running, proxy: str) -> None:
    """The proxy may close before it has read everything, or find that the service has closed."""
    content = b"x" * (2 << 20)
    head = f"POST /v1/pictures HTTP/1.1\r\nHost: {NAME}\r\nContent-Length: {len(content)}\r\n\r\n"
    with socket.create_connection(("127.0.0.1", front.port), timeout=SECONDS) as connection:
        with suppress(OSError):
            connection.sendall(head.encode() + content)
        assert connection.recv(64).split()[1] in (b"413", b"502")
    assert proxy != "nginx" or gated.client.metric("pahi_requests_total") == 0  # it ended at the proxy


def test_metrics_stay_inside(front: Client, gated: Running) -> None:
    assert gated.client("GET", "/metrics").status == 200
    assert front("GET", "/metrics").status == 404
    assert front("GET", "/readyz").status == 200


Fits = Callable[[str], bool]


def size(text: str) -> int:
    """A size in bytes, as nginx and Caddy write it."""
    number, unit = re.findall(r"(\d+)(\D*)", text)[0]
    return int(number) * {"": 1, "m": 1 << 20, "MiB": 1 << 20}[unit]


def outlasts_the_deadline(text: str) -> bool:
    return float(text.removesuffix("s")) > DEADLINE


FITS: dict[str, dict[str, Fits]] = {
    "nginx.conf": {
        "client_max_body_size": lambda text: size(text) == LARGEST_BODY,
        "limit_conn": lambda text: text == "pahi-rt 32",
        "limit_conn_status": lambda text: text == "429",
        "proxy_http_version": lambda text: text == "1.1",
        "proxy_set_header Host": lambda text: text == "$http_host",
        "proxy_set_header Upgrade": lambda text: text == "$http_upgrade",
        "proxy_set_header Connection": lambda text: text == "$pahi_rt_connection",
        "proxy_buffering": lambda text: text == "off",
        "proxy_read_timeout": outlasts_the_deadline,
        "proxy_next_upstream": lambda text: text == "off",
        "keepalive": lambda text: int(text) > 0,
    },
    "Caddyfile": {
        "max_size": lambda text: size(text) == LARGEST_BODY,
        "response_header_timeout": outlasts_the_deadline,
    },
}
"""Settings of a file -> whether they fit the service's own limits."""
STARTS = ("listen", "server", "server_name", "ssl_certificate", "ssl_certificate_key", "limit_conn_zone", "proxy_pass")
"""Settings without which nginx does not start, or the tests above fail."""


def amiss(name: str, text: str) -> list[str]:
    """The settings that are missing, or do not fit."""
    found = {setting: re.search(rf"^\s*{setting}\s+([^;\n]+);?$", text, re.MULTILINE) for setting in FITS[name]}
    return [setting for setting, fits in FITS[name].items() if (match := found[setting]) is None or not fits(match[1])]


@pytest.mark.parametrize("name", FITS)
def test_the_settings_agree_with_the_service(name: str) -> None:
    assert amiss(name, (DEPLOY / name).read_text()) == []


@pytest.mark.parametrize("name", FITS)
def test_no_setting_can_be_removed_unseen(name: str) -> None:
    lines = (DEPLOY / name).read_text().splitlines(keepends=True)
    is_setting = re.compile(r"\s+[a-z_]+ [^{]*;\n" if name == "nginx.conf" else r"\t+[a-z_]+ [^{/]+\n")
    settings = [line for line in lines if is_setting.fullmatch(line) and not line.split()[0].startswith(STARTS)]
    assert len(settings) >= len(FITS[name])
    for setting in settings:
        if not setting.strip().startswith(("default", "return")):
            assert amiss(name, "".join(line for line in lines if line != setting)), setting
