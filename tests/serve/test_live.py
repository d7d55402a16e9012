"""WS /v1/live. Peers' faults: clients get each other's pictures (StreamDiffusion #156), or old ones (Fooocus #442)."""

from __future__ import annotations

import asyncio
import io
import json
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from PIL import Image
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect

from pahi_rt import Pipeline
from pahi_rt.serve.encode import encode
from pahi_rt.serve.live import live as serve_live
from tests.serve.conftest import SECONDS, Client, Running, until


class Live:
    """A connection to /v1/live."""

    def __init__(self, connection: ClientConnection) -> None:
        self.connection = connection

    def send(self, number: int, prompt: str = "a cat", **rest: Any) -> None:
        self.connection.send(json.dumps({"id": number, "prompt": prompt, **rest}))

    def next(self) -> dict[str, Any]:
        """The next text; the pictures that follow it are under "files"."""
        text = self.connection.recv(SECONDS)
        assert isinstance(text, str)
        message: dict[str, Any] = json.loads(text)
        message["files"] = [self._file() for _ in message.get("pictures", [])]
        return message

    def _file(self) -> bytes:
        file = self.connection.recv(SECONDS)
        assert isinstance(file, bytes)
        return file


@contextmanager
def live(client: Client, **options: Any) -> Iterator[Live]:
    with connect(f"ws://127.0.0.1:{client.port}/v1/live", compression=None, **options) as connection:
        yield Live(connection)


def test_who_sends_much_leaves_others_their_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    class Talking:
        """A connection on which a hundred messages have come at once."""

        scope: dict[str, Any] = {"subprotocols": []}  # noqa: RUF012
        app = SimpleNamespace(state=SimpleNamespace(service=SimpleNamespace(live=0)))
        taken = 0

        async def accept(self, subprotocol: str | None) -> None:
            pass

        async def receive(self) -> dict[str, Any]:
            self.taken += 1
            return {"type": "websocket.receive" if self.taken <= 100 else "websocket.disconnect", "text": "{}"}

    class Silent:
        def __init__(self, *arguments: object) -> None:
            pass

        async def take(self, text: str | None) -> None:
            pass

        async def draw(self) -> None:
            pass

        def close(self) -> None:
            pass

    async def turns() -> int:
        talk, count = asyncio.ensure_future(serve_live(Talking())), 0  # type: ignore[arg-type]
        while not talk.done():
            await asyncio.sleep(0)
            count += 1
        return count

    monkeypatch.setattr("pahi_rt.serve.live.Session", Silent)
    assert asyncio.run(turns()) >= 100


def pixels(file: bytes) -> bytes:
    return Image.open(io.BytesIO(file)).convert("RGB").tobytes()


def test_pictures_from_each_seed_at_every_strength(client: Client, contract_with_priors: Path) -> None:
    pipeline = Pipeline.load(contract_with_priors)
    with live(client) as socket:
        socket.send(5, "a red apple", seed=7, count=2, prior_strengths=[0, 1], format="png")
        reply = socket.next()
    assert (reply["id"], reply["seed"], reply["sha256"]) == (5, 7, pipeline.bundle.sha256)
    order = [(0, 7), (1, 7), (0, 8), (1, 8)]
    assert [(p["prior_strength"], p["seed"]) for p in reply["pictures"]] == order
    expected = [pipeline("a red apple", seed=seed, prior_strength=strength).tobytes() for strength, seed in order]
    assert [pixels(file) for file in reply["files"]] == expected
    for picture, file in zip(reply["pictures"], reply["files"], strict=True):
        assert (picture["bytes"], picture["type"], picture["width"]) == (len(file), "image/png", 32)
    assert set(reply["timing"]) == {"queue_ms", "tokenise_ms", "run_ms", "encode_ms"}


def test_what_the_page_sends(client: Client) -> None:
    with live(client) as socket:
        socket.send(1, "a zorblax", model="contract", seed=None, count=1, steps=1, prior=None, prior_strengths=[])
        reply = socket.next()
        assert [word["word"] for word in reply["unknown_words"]] == ["zorblax"]
        socket.send(2, "a zorblax", model="contract", seed=reply["seed"], format="webp")
        assert socket.next()["pictures"][0]["type"] == "image/webp"


@pytest.mark.parametrize(
    ("message", "number", "status"),
    [
        ("{", None, 400),
        ("[]", None, 400),
        ('{"id": 3}', 3, 400),
        ('{"id": 3, "prompt": ""}', 3, 400),
        ('{"id": 3, "prompt": "a", "model": "flux"}', 3, 404),
        ('{"id": 3, "prompt": "a", "count": 17}', 3, 400),
        ('{"id": 3, "prompt": "a", "count": 9, "prior_strengths": [0, 1]}', 3, 400),
        ('{"id": 3, "prompt": "a", "prior_strengths": [2]}', 3, 400),
        ('{"id": "3", "prompt": "a"}', None, 400),
        (b"\x00", None, 400),
    ],
)
def test_an_error_leaves_the_connection_open(
    client: Client, message: str | bytes, number: int | None, status: int
) -> None:
    with live(client) as socket:
        socket.connection.send(message)
        reply = socket.next()
        assert (reply["id"], reply["error"]["status"]) == (number, status)
        assert reply["error"]["fix"]
        socket.send(4)
        assert socket.next()["id"] == 4


def test_the_latest_wins(gated: Running) -> None:
    gated.gate.open.clear()
    with live(gated.client) as socket:
        socket.send(1)
        until(lambda: gated.unfinished == 1 and gated.is_drawing)
        for number in (2, 3, 4):
            socket.send(number, f"a cat {number}", seed=number)
        assert [socket.next()["superseded"] for _ in (2, 3)] == [True, True]
        gated.gate.open.set()
        first, last = socket.next(), socket.next()
        assert (first["id"], last["id"], last["seed"]) == (1, 4, 4)
    assert gated.client.metric("pahi_superseded_total") == 2


def test_who_types_fast_keeps_the_place_in_the_queue(gated: Running) -> None:
    gated.gate.open.clear()
    with ThreadPoolExecutor(4) as threads, live(gated.client) as socket:
        running = threads.submit(gated.client.draw, prompt="a cat")
        until(lambda: gated.unfinished == 1 and gated.is_drawing)
        socket.send(1)
        until(lambda: gated.waiting == 1)
        after = threads.submit(gated.client.draw, prompt="a dog")
        until(lambda: gated.waiting == 2)
        socket.send(2, "a cat", seed=2)
        assert socket.next() == {"id": 1, "superseded": True, "files": []}
        first = gated.service.engine.queue.head().order
        assert (first.prompts, first.seed, gated.waiting) == (("a cat",), 2, 2)
        gated.gate.open.set()
        assert socket.next()["id"] == 2
        assert (running.result().status, after.result().status) == (200, 200)


def test_nobody_else_is_superseded(gated: Running) -> None:
    gated.gate.open.clear()
    with live(gated.client) as one, live(gated.client) as other:
        one.send(1, "a cat", seed=1)
        until(lambda: gated.unfinished == 1 and gated.is_drawing)
        other.send(1, "a dog", seed=2)
        until(lambda: gated.unfinished == 2)
        one.send(2, "a cat", seed=3)
        gated.gate.open.set()
        assert [one.next()["seed"], other.next()["seed"], one.next()["seed"]] == [1, 2, 3]


def test_who_leaves_frees_the_place_and_touches_nobody(gated: Running) -> None:
    expected = gated.client.draw(prompt="a dog", seed=2).body
    gated.gate.open.clear()
    with live(gated.client) as other:
        with live(gated.client) as one:
            one.send(1, count=3)
            until(lambda: gated.unfinished == 3)
            other.send(7, "a dog", seed=2)
            until(lambda: gated.unfinished == 4)
        until(lambda: gated.unfinished == 1)
        gated.gate.open.set()
        reply = other.next()
    assert (reply["id"], reply["files"]) == (7, [expected])
    until(lambda: gated.service.live == 0)


def test_a_full_queue_and_a_deadline(bundles: tuple[Path, Path]) -> None:
    with Running(*bundles, queue=1, deadline=0.5) as service, live(service.client) as one, live(service.client) as two:
        service.gate.open.clear()
        one.send(1)
        until(lambda: service.unfinished == 1)
        two.send(2)
        error = two.next()["error"]
        assert (error["status"], error["retry_after"] >= 1) == (429, True)
        assert one.next()["error"]["status"] == 504
        service.gate.open.set()
        until(lambda: not service.unfinished)
        two.send(3)
        assert two.next()["id"] == 3


def test_many_at_once_get_their_own(even: Path) -> None:
    def type_on(number: int) -> list[tuple[int, str, bytes]]:
        answered: list[tuple[int, str, bytes]] = []
        with live(service.client) as socket:
            for step in range(12):
                socket.send(step, f"{'cat' if number % 2 else 'dog'} {number}", seed=100 * number + step)
            while not answered or answered[-1][0] != 11:
                reply = socket.next()
                if "files" in reply and reply["files"]:
                    picture = reply["pictures"][0]
                    assert picture["seed"] == 100 * number + reply["id"]
                    answered.append((reply["id"], picture["prompt"], pixels(reply["files"][0])))
        return answered

    with Running(even, real=True) as service, ThreadPoolExecutor(10) as typists:
        found = list(typists.map(type_on, range(10)))
    pipeline = Pipeline.load(even, threads=1)
    for number, answered in enumerate(found):
        for step, prompt, picture in answered:
            assert prompt.endswith(f" {number}")
            assert picture == pipeline(prompt, seed=100 * number + step).tobytes()


def test_a_bug_leaves_the_connection_open(gated: Running) -> None:
    with live(gated.client) as socket:
        gated.gate.error = lambda ids: ZeroDivisionError("in /home/me")
        socket.send(1)
        assert socket.next()["error"]["status"] == 500
        gated.gate.error = lambda ids: None
        socket.send(2)
        assert socket.next()["id"] == 2


def test_the_end(gated: Running) -> None:
    gated.gate.open.clear()
    with live(gated.client) as socket:
        socket.send(1)
        until(lambda: gated.unfinished == 1)
        gated.end()
        socket.send(2)
        assert socket.next()["error"]["status"] == 503
        gated.gate.open.set()
        assert socket.next()["id"] == 1
        with pytest.raises(ConnectionClosed) as closed:
            socket.next()
        assert closed.value.rcvd is not None and closed.value.rcvd.code == 1012


def test_the_end_waits_for_the_answer_and_not_only_for_the_picture(
    gated: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn = threading.Event()

    def slow(*rest: Any) -> Any:
        drawn.set()
        time.sleep(0.5)
        return encode(*rest)

    monkeypatch.setattr("pahi_rt.serve.service.encode", slow)
    gated.gate.open.set()
    with live(gated.client) as socket:
        socket.send(1)
        assert drawn.wait(SECONDS)
        gated.end()
        assert socket.next()["id"] == 1
    assert not gated.service.answering


def test_a_message_that_is_too_large(client: Client) -> None:
    with live(client) as socket:
        socket.send(1, "x" * 70_000)
        with pytest.raises(ConnectionClosed) as closed:
            socket.next()
        assert closed.value.rcvd is not None and closed.value.rcvd.code == 1009
