"""Several workers on one listening socket: who has least to do takes the next connection."""

from __future__ import annotations

import asyncio
import math
import socket
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import pytest

from pahi_rt.serve.server import Server, open_models
from pahi_rt.serve.service import Service
from pahi_rt.serve.settings import Settings
from pahi_rt.serve.sharing import Door, Loads, Share
from tests.serve.conftest import serving, until


def test_the_least_is_of_those_who_are_alive(monkeypatch: pytest.MonkeyPatch) -> None:
    loads = Loads(3)
    assert loads.least() == math.inf
    loads.note(0, 3)
    loads.note(1, 2)
    loads.note(2, math.inf)
    assert loads.least() == 2
    assert [loads.is_open(place) for place in range(3)] == [True, True, False]
    loads.forget(1)
    assert loads.least() == 3
    assert not loads.is_open(1)
    now = time.monotonic()
    monkeypatch.setattr("pahi_rt.serve.sharing.time.monotonic", lambda: now + 60)
    assert loads.least() == math.inf  # nobody has said anything for a minute


def test_who_loads_or_ends_leaves_connections_to_others() -> None:
    settings = Settings(("emoji",))
    server = Server(Service.of(open_models(settings), settings))
    assert server.load == math.inf
    server.service.engine.ready.set()
    assert server.load == 0
    server.service.engine.is_draining = True
    assert server.load == math.inf


async def came(door: asyncio.Event, seconds: float) -> bool:
    with suppress(asyncio.TimeoutError):
        await asyncio.wait_for(door.wait(), seconds)
    return door.is_set()


def test_a_connection_is_left_to_who_has_less_to_do() -> None:
    async def knock(mine: float, other: float) -> tuple[bool, bool]:
        """Whether the connection was taken at once, and whether it was when the other had ended."""
        taken, loads = asyncio.Event(), Loads(2)

        class Taking(asyncio.Protocol):
            def connection_made(self, transport: asyncio.BaseTransport) -> None:
                taken.set()
                transport.close()

        with socket.create_server(("127.0.0.1", 0)) as listener:
            listener.setblocking(False)
            loads.note(1, other)
            Door(listener, Share(loads, 0), lambda: mine, Taking).open()
            with socket.create_connection(listener.getsockname()):
                at_once = await came(taken, 0.2)
                loads.forget(1)
                later = await came(taken, 10)
            asyncio.get_running_loop().remove_reader(listener)
        return at_once, later

    assert asyncio.run(knock(0, 0)) == (True, True)
    assert asyncio.run(knock(2, 3)) == (True, True)
    assert asyncio.run(knock(2, 1)) == (False, True)
    assert asyncio.run(knock(math.inf, 1)) == (False, True)
    assert asyncio.run(knock(math.inf, math.inf)) == (True, True)


def test_nobody_is_refused_while_another_worker_has_room() -> None:
    """Four clients and two workers with room for three each: by chance, all four would soon meet the same one."""
    with serving("emoji", "--workers", "2", "--threads", "1", "--queue", "3", wait=False) as running:
        until(lambda: "".join(running.log).count("ready: ") == 2, 120)

        def draw(seed: int) -> int:
            return running.client.draw(prompt="a cat", seed=seed).status

        with ThreadPoolExecutor(4) as clients:
            assert set(clients.map(draw, range(40))) == {200}


def test_who_was_refused_tries_another_worker() -> None:
    with serving("emoji", "--workers", "2", "--threads", "1", "--queue", "1", wait=False) as running:
        until(lambda: "".join(running.log).count("ready: ") == 2, 120)
        with ThreadPoolExecutor(8) as clients:
            replies = list(clients.map(lambda seed: running.client.draw(prompt="a cat", seed=seed), range(40)))
    refused = [reply for reply in replies if reply.status == 429]
    assert {reply.status for reply in replies} == {200, 429}
    assert {reply.headers["connection"] for reply in refused} == {"close"}
