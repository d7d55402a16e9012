"""Who may ask: names, origins and keys (sd-server's CORS lets any page drive it; FastSD's is open to all)."""

from __future__ import annotations

import base64
import json
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect

from pahi_rt.errors import PahiError
from pahi_rt.serve.keys import Keys
from pahi_rt.serve.settings import Settings, check_settings
from tests.serve.conftest import SECONDS, Client, Reply, Running, until

KEYS = ("0123456789abcdef-one", "0123456789abcdef-two")


def opens_live(client: Client, *, origin: str | None = None, **options: Any) -> int:
    """The status that the WebSocket is answered with."""
    try:
        with connect(f"ws://127.0.0.1:{client.port}/v1/live", origin=origin, **options):  # type: ignore[arg-type]
            return 101
    except InvalidStatus as error:
        return error.response.status_code


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost:8000", "LOCALHOST", "[::1]:80", "192.168.1.7"])
def test_its_own_names(client: Client, host: str) -> None:
    assert client("GET", "/v1/models", headers={"Host": host}).status == 200


def test_a_load_balancer_names_nobody(client: Client) -> None:
    """HTTP/1.0 without Host, as HAProxy asks for health."""
    with socket.create_connection(("127.0.0.1", client.port), timeout=SECONDS) as connection:
        connection.sendall(b"GET /healthz HTTP/1.0\r\n\r\n")
        assert connection.recv(64).startswith(b"HTTP/1.1 200")


@pytest.mark.parametrize("host", ["evil.example", "localhost.evil.example", "evil.example:8000", "[", "a b"])
@pytest.mark.parametrize("path", ["/v1/models", "/", "/metrics", "/v1/live"])
def test_a_name_that_leads_here_is_not_enough(client: Client, host: str, path: str) -> None:
    reply = client("GET", path, headers={"Host": host})
    assert reply.status == 421
    assert b"allow-host" in reply.body
    assert reply.headers["x-request-id"]


@pytest.mark.parametrize(
    ("host", "is_local"),
    [("127.0.0.1", True), ("127.0.0.2", True), ("::1", True), ("Localhost", True), ("0.0.0.0", False), ("::", False)],
)
def test_which_addresses_only_this_machine_can_reach(host: str, is_local: bool) -> None:
    assert Settings((), host=host).is_local is is_local


@pytest.mark.parametrize(
    "settings",
    [
        {"allow_origins": ("pictures.example",)},
        {"allow_origins": ("https://pictures.example/",)},
        {"allow_origins": ("https://Pictures.example",)},
        {"allow_origins": ("null",)},
        {"allow_hosts": ("pictures.example:443",)},
        {"allow_hosts": ("*",)},
        {"host": ""},
        {"runtime": "tpu"},
        {"threads": 0},
        {"api_key_file": Path("/nonexistent/keys")},
    ],
)
def test_settings_that_would_let_nobody_in_or_everybody(settings: dict[str, Any]) -> None:
    with pytest.raises(PahiError) as caught:
        check_settings(Settings((), **settings))
    assert caught.value.fix


def test_settings_that_are_fine() -> None:
    origins = ("*", "https://pictures.example", "http://localhost:3000", "http://[::1]:80", "moz-extension://ab-12")
    check_settings(Settings((), allow_origins=origins, allow_hosts=("pictures.example", "HOST_1")))


def test_more_names(bundles: tuple[Path, Path]) -> None:
    with Running(*bundles, allow_hosts=("pictures.example",)) as service:
        assert service.client("GET", "/v1/models", headers={"Host": "pictures.example"}).status == 200
        assert service.client("GET", "/v1/models", headers={"Host": "other.example"}).status == 421


@pytest.mark.parametrize("origin", ["https://evil.example", "http://127.0.0.1:1", "null", "http://localhost"])
def test_pages_from_elsewhere_can_do_nothing(client: Client, origin: str) -> None:
    reply = client.draw(prompt="a cat", headers={"Origin": origin})
    assert reply.status == 403
    assert opens_live(client, origin=origin) == 403
    readable = client("GET", "/v1/models", headers={"Origin": origin})
    preflight = client("OPTIONS", "/v1/pictures", headers={"Origin": origin, "Access-Control-Request-Method": "POST"})
    for answered in (reply, readable, preflight):
        assert not [name for name in answered.headers if name.lower().startswith("access-control")]


def test_its_own_page_may_draw(client: Client) -> None:
    own = f"http://127.0.0.1:{client.port}"
    assert client.draw(prompt="a cat", headers={"Origin": own}).status == 200
    assert opens_live(client, origin=own) == 101


def test_pages_that_are_allowed(bundles: tuple[Path, Path]) -> None:
    good, bad = "https://good.example", "https://bad.example"
    with Running(*bundles, allow_origins=(good,)) as service:
        asked = {
            "Origin": good,
            "Access-Control-Request-Method": "POST",
            "Access-Control-Request-Headers": "content-type,x-stainless-lang",  # OpenAI's client in a browser
        }
        preflight = service.client("OPTIONS", "/v1/pictures", headers=asked)
        assert (preflight.status, preflight.headers["access-control-allow-origin"]) == (200, good)
        reply = service.client.draw(prompt="a cat", headers={"Origin": good})
        assert (reply.status, reply.headers["access-control-allow-origin"]) == (200, good)
        assert "access-control-allow-credentials" not in reply.headers
        assert "X-Seed" in reply.headers["access-control-expose-headers"]
        assert opens_live(service.client, origin=good) == 101
        refused = service.client.draw(prompt="a cat", headers={"Origin": bad})
        assert (refused.status, refused.headers["access-control-allow-origin"]) == (403, None)


@pytest.fixture
def keys(tmp_path: Path) -> Path:
    file = tmp_path / "keys"
    file.write_text(f"# for the tests\n{KEYS[0]}\n\n{KEYS[1]}\n")
    return file


@pytest.fixture
def locked(bundles: tuple[Path, Path], keys: Path) -> Iterator[Running]:
    with Running(*bundles, api_key_file=keys) as service:
        yield service


def with_key(client: Client, key: str, scheme: str = "Bearer") -> Reply:
    return client.draw(prompt="a cat", headers={"Authorization": f"{scheme} {key}"})


def test_keys(locked: Running) -> None:
    client = locked.client
    assert [with_key(client, key).status for key in KEYS] == [200, 200]
    assert with_key(client, KEYS[0], "bearer").status == 200
    for key in ("wrong", "", KEYS[0][:-1], KEYS[0] + "x", "# for the tests", "\xff" * 20):
        assert with_key(client, key).status == 401
    assert with_key(client, KEYS[0], "Basic").status == 401
    refused = client.draw(prompt="a cat")
    assert (refused.status, refused.headers["www-authenticate"]) == (401, "Bearer")
    openai = client.post("/v1/images/generations", prompt="a cat")
    assert (openai.status, openai.json["error"]["code"]) == (401, "invalid_api_key")


def test_what_keys_guard(locked: Running) -> None:
    closed, free = ("/v1/models", "/v1/models/contract/vocabulary", "/metrics"), ("/healthz", "/readyz", "/")
    # Starlette's routes take a final newline, too.
    assert {locked.client("GET", path + end).status for path in closed for end in ("", "%0A")} == {401}
    assert {locked.client("GET", path).status for path in (*free, "/openapi.json")} == {200}
    document = locked.client("GET", "/openapi.json").json
    assert document["security"] == [{"key": []}]
    open_paths = {path for path, item in document["paths"].items() if item.get("get", {}).get("security") == []}
    assert open_paths == {"/healthz", "/readyz", "/openapi.json"}


def test_other_subprotocols_are_not_spoken(client: Client) -> None:
    with connect(f"ws://127.0.0.1:{client.port}/v1/live", subprotocols=["other"]) as connection:  # type: ignore[list-item]
        assert connection.subprotocol is None


def test_a_socket_elsewhere(gated: Running) -> None:
    with pytest.raises(InvalidStatus), connect(f"ws://127.0.0.1:{gated.client.port}/v1/nothing"):
        pass
    assert b'pahi_requests_total{route="other",status="403"} 1.0' in gated.client("GET", "/metrics").body


def test_a_key_for_the_socket(locked: Running) -> None:
    encoded = base64.urlsafe_b64encode(KEYS[1].encode()).decode().rstrip("=")
    assert opens_live(locked.client) == 401
    assert opens_live(locked.client, subprotocols=["pahi-live", "pahi-key.d3Jvbmc"]) == 401
    assert opens_live(locked.client, subprotocols=["pahi-live", f"pahi-key.{encoded}"]) == 101
    assert opens_live(locked.client, additional_headers={"Authorization": f"Bearer {KEYS[0]}"}) == 101


def test_a_removed_key_ends_its_open_websockets(locked: Running, keys: Path) -> None:
    header = {"Authorization": f"Bearer {KEYS[0]}"}
    with connect(f"ws://127.0.0.1:{locked.client.port}/v1/live", additional_headers=header) as connection:
        connection.send('{"id": 1, "prompt": "a cat"}')
        assert json.loads(connection.recv(SECONDS))["id"] == 1
        assert isinstance(connection.recv(SECONDS), bytes)
        keys.write_text(KEYS[1])
        locked.service.keys.reload()
        connection.send('{"id": 2, "prompt": "a cat"}')
        with pytest.raises(ConnectionClosed) as closed:
            connection.recv(SECONDS)
    assert closed.value.rcvd is not None
    assert (closed.value.rcvd.code, closed.value.rcvd.reason) == (1008, "this is not one of the server's API keys")
    until(lambda: locked.service.live == 0 and not locked.service.answering)


def test_keys_are_read_again(keys: Path) -> None:
    known = Keys(keys)
    keys.write_text("another-key-that-is-long\n")
    assert known.open_with(KEYS[0])
    known.reload()
    assert (known.open_with(KEYS[0]), known.open_with("another-key-that-is-long")) == (False, True)
    keys.write_text("")
    known.reload()
    keys.unlink()
    known.reload()
    assert known.open_with("another-key-that-is-long")


def test_a_file_from_an_editor_that_begins_it_with_a_mark(tmp_path: Path) -> None:
    file = tmp_path / "keys"
    file.write_text(f"{KEYS[0]}\r\n", encoding="utf-8-sig")
    assert Keys(file).open_with(KEYS[0])


@pytest.mark.parametrize(
    "content",
    [None, "", "# nothing\n", "short\n", b"\xff\xfe", "a-key-that-is-lóng-enough\n", f"{KEYS[0]} # alice\n"],
)
def test_a_file_without_usable_keys(tmp_path: Path, content: str | bytes | None) -> None:
    file = tmp_path / "keys"
    if content is not None:
        file.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(PahiError) as caught:
        Keys(file)
    assert caught.value.fix


def test_without_a_file_everybody_may_ask() -> None:
    assert not Keys(None).are_needed
