"""What waits: bounds, deadlines, clients that leave, failures, and the end of the service.

Peers' faults that must not be ours: one aborted request aborts all later ones (vllm-omni #3167), users get each
other's pictures (diffusers #7851, StreamDiffusion #156, Fooocus #442), queues without a bound (ComfyUI #2401, LitServe
#52), an interrupt that is global (ComfyUI), a second request that is an error (openvino.genai #2480).
"""

from __future__ import annotations

import http.client
import json
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from pahi_rt.errors import RuntimeUnavailable
from pahi_rt.tokenizer import Encoded, Tokenizer
from tests.serve.conftest import SECONDS, Later, Running, until


def leave(service: Running, body: dict[str, Any]) -> socket.socket:
    """Send a request on a connection that the caller closes."""
    content = json.dumps(body).encode()
    connection = socket.create_connection(("127.0.0.1", service.client.port), timeout=SECONDS)
    head = f"POST /v1/pictures HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(content)}\r\n\r\n"
    connection.sendall(head.encode() + content)
    return connection


def test_a_full_queue_refuses_and_says_for_how_long(bundles: tuple[Path, Path], later: Later) -> None:
    with Running(*bundles, queue=4) as service:
        service.gate.open.clear()
        waiting = later(service.client.draw, prompt="a cat", count=3)
        until(lambda: service.unfinished == 3)
        refused = service.client.draw(prompt="a cat", count=2)
        assert (refused.status, refused.json["type"]) == (429, "urn:pahi-rt:problem:queue-full")
        assert int(refused.headers["retry-after"]) == refused.json["retry_after"] >= 1
        also = service.client.post("/v1/images/generations", prompt="a cat", n=2)
        assert (also.status, also.json["error"]["type"]) == (429, "rate_limit_error")
        fits = later(service.client.draw, prompt="a cat")
        until(lambda: service.unfinished == 4)
        service.gate.open.set()
        assert (waiting.result().status, fits.result().status) == (200, 200)
        assert service.client.draw(prompt="a cat").status == 200


def test_many_that_are_refused_take_no_threads(gated: Running, later: Later) -> None:
    gated.client.draw(prompt="a cat")
    before = threading.active_count()
    refused = [later(gated.client.draw, prompt="a cat", steps=99) for _ in range(64)]
    most = max(threading.active_count() for reply in refused if reply.result().status == 400)
    assert most <= before + 32  # those that ask


def test_a_request_larger_than_the_queue_is_drawn_where_nobody_waits(bundles: tuple[Path, Path]) -> None:
    with Running(*bundles, queue=2) as service:
        assert service.client.draw(prompt="a cat", count=9).status == 200


def test_the_bound_follows_the_speed(bundles: tuple[Path, Path]) -> None:
    with Running(*bundles, patience=0.5) as service:
        engine = service.service.engine
        assert engine.limit == min(1000, max(1, int(0.5 * engine.rate)))
        service.gate.seconds = 0.05
        for _ in range(40):
            service.client.draw(prompt="a cat")
        assert 5 <= engine.limit <= 10


def test_retry_after_follows_the_speed(bundles: tuple[Path, Path], later: Later) -> None:
    with Running(*bundles, queue=10) as service:
        service.service.engine._seconds = 3.0
        service.gate.open.clear()
        waiting = later(service.client.draw, prompt="a cat", count=10)
        until(lambda: service.unfinished == 10)
        assert int(service.client.draw(prompt="a cat").headers["retry-after"]) == 3
        assert int(service.client.draw(prompt="a cat", count=4).headers["retry-after"]) == 12
        service.gate.open.set()
        assert waiting.result().status == 200


def test_a_deadline(bundles: tuple[Path, Path]) -> None:
    with Running(*bundles, deadline=0.3) as service:
        service.gate.open.clear()
        began = time.monotonic()
        late = service.client.draw(prompt="a cat")
        assert (late.status, time.monotonic() - began < 5) == (504, True)
        assert service.client.post("/v1/images/generations", prompt="a cat").json["error"]["code"] == "overdue"
        stream = service.client.post("/v1/images/generations", prompt="a cat", stream=True)
        assert b'"code": "overdue"' in stream.body
        service.gate.open.set()
        until(lambda: not service.unfinished)
        assert service.client.draw(prompt="a cat").status == 200


def test_who_leaves_while_waiting_frees_the_place(bundles: tuple[Path, Path], later: Later) -> None:
    with Running(*bundles, queue=3) as service:
        service.gate.open.clear()
        first = later(service.client.draw, prompt="a cat", seed=1)
        until(lambda: service.unfinished == 1 and service.is_drawing)
        connection = leave(service, {"prompt": "a dog", "count": 2})
        until(lambda: service.unfinished == 3)
        assert service.client.draw(prompt="a cat").status == 429
        connection.close()
        until(lambda: service.unfinished == 1)
        second = later(service.client.draw, prompt="a cat", seed=2)
        until(lambda: service.unfinished == 2)
        service.gate.open.set()
        assert (first.result().status, second.result().status) == (200, 200)
        assert sum(service.gate.batches) == 2  # the pictures of who left were never drawn


def test_who_leaves_while_being_drawn_touches_nobody(gated: Running, later: Later) -> None:
    expected = [gated.client.draw(prompt="a cat", seed=seed).body for seed in range(4)]
    gated.gate.open.clear()
    first = later(gated.client.draw, prompt="a cat", seed=0)
    until(lambda: gated.unfinished == 1 and gated.is_drawing)
    connection = leave(gated, {"prompt": "a dog"})
    until(lambda: gated.unfinished == 2)
    others = [later(gated.client.draw, prompt="a cat", seed=seed) for seed in (1, 2, 3)]
    until(lambda: gated.unfinished == 5)
    gated.gate.open.set()
    gated.gate.open.clear()
    connection.close()
    gated.gate.open.set()
    assert [reply.result().body for reply in [first, *others]] == expected
    assert [gated.client.draw(prompt="a cat", seed=seed).body for seed in range(4)] == expected


def test_who_leaves_a_stream_frees_the_place(gated: Running) -> None:
    gated.gate.open.clear()
    connection = http.client.HTTPConnection("127.0.0.1", gated.client.port, timeout=SECONDS)
    connection.request("POST", "/v1/images/generations", json.dumps({"prompt": "a cat", "n": 9, "stream": True}))
    assert connection.getresponse().readline() == b": waiting\n"
    until(lambda: gated.unfinished == 9)
    connection.close()
    until(lambda: not gated.unfinished)


def test_requests_are_drawn_together_where_they_can_be(
    bundles: tuple[Path, Path], later: Later, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pahi_rt.serve.measure.WORTH", -100)  # however slow batches seem on a busy machine
    with Running(*bundles) as gated:
        _draw_together(gated, later)


def _draw_together(gated: Running, later: Later) -> None:
    gated.gate.open.clear()
    first = later(gated.client.draw, prompt="a cat")
    until(lambda: gated.unfinished == 1 and gated.is_drawing)
    others = [later(gated.client.draw, prompt=f"a cat {index}", seed=index) for index in range(7)]
    until(lambda: gated.unfinished == 8)
    gated.gate.batches.clear()
    gated.gate.open.set()
    assert {reply.result().status for reply in [first, *others]} == {200}
    assert gated.gate.batches == [4, 2, 1]


def test_another_graph_is_never_in_the_same_batch(gated: Running, later: Later) -> None:
    for prior in ("pahi", "hi"):
        gated.client.draw(prompt="a cat", prior=prior)
    gated.gate.open.clear()
    first = later(gated.client.draw, prompt="a cat")
    until(lambda: gated.unfinished == 1 and gated.is_drawing)
    waiting = []
    for index, prior in enumerate(["hi", "pahi", "hi", "pahi"]):
        waiting.append(later(gated.client.draw, prompt="a cat", prior=prior))
        until(lambda count=index: gated.unfinished == 2 + count)  # type: ignore[misc]
    gated.gate.batches.clear()
    gated.gate.open.set()
    assert {reply.result().status for reply in [first, *waiting]} == {200}
    assert max(gated.gate.batches) <= 2


def test_one_that_fails_fails_alone(gated: Running, later: Later) -> None:
    bad = gated.service.engine.models.default.tokenizer.encode(["a dog"]).input_ids[0]
    gated.gate.error = lambda ids: (
        RuntimeUnavailable("no /secret/path left", fix="x") if (ids == bad).all(axis=1).any() else None
    )
    gated.gate.open.clear()
    first = later(gated.client.draw, prompt="a cat")
    until(lambda: gated.unfinished == 1 and gated.is_drawing)
    prompts = ["a cat", "a dog", "an apple", "a dog"]
    replies = [later(gated.client.draw, prompt=prompt) for prompt in prompts]
    until(lambda: gated.unfinished == 5)
    gated.gate.open.set()
    assert [reply.result().status for reply in [first, *replies]] == [200, 200, 500, 200, 500]
    assert b"secret" not in replies[1].result().body
    assert gated.client.draw(prompt="a cat").status == 200


def test_a_bug_is_told_without_its_traceback(gated: Running) -> None:
    gated.gate.error = lambda ids: ZeroDivisionError("in /home/me/file.py")
    reply = gated.client.draw(prompt="a cat")
    assert (reply.status, reply.json["type"]) == (500, "urn:pahi-rt:problem:internal")
    assert b"file.py" not in reply.body and b"Zero" not in reply.body
    gated.gate.error = lambda ids: None
    assert gated.client.draw(prompt="a cat").status == 200


def test_the_end_finishes_what_was_accepted_and_refuses_the_rest(gated: Running, later: Later) -> None:
    gated.gate.open.clear()
    accepted = [later(gated.client.draw, prompt="a cat", seed=seed) for seed in range(5)]
    until(lambda: gated.unfinished == 5)
    gated.end()
    refused = gated.client.draw(prompt="a cat")
    assert (refused.status, refused.headers["retry-after"] is not None) == (503, True)
    assert gated.client("GET", "/readyz").status == 503
    assert gated.client("GET", "/healthz").status == 200
    gated.gate.open.set()
    assert [reply.result().status for reply in accepted] == [200] * 5
    until(lambda: not gated._thread.is_alive())


def test_the_end_comes_within_the_grace(bundles: tuple[Path, Path], later: Later) -> None:
    with Running(*bundles, grace=0.5) as service:
        service.gate.open.clear()
        lost = later(service.client.draw, prompt="a cat")
        until(lambda: service.unfinished == 1)
        began = time.monotonic()
        service.end()
        until(lambda: not service._thread.is_alive(), 5)
        assert time.monotonic() - began < 3
        assert (lost.result().status, lost.result().json["type"]) == (503, "urn:pahi-rt:problem:shutting-down")
        assert lost.result().headers["retry-after"]


def test_what_cannot_be_stopped_is_known_at_the_end(bundles: tuple[Path, Path], later: Later) -> None:
    """A process whose thread loads, draws or scores must not wait for it."""
    with Running(*bundles, grace=0.3) as service:
        service.gate.open.clear()
        later(service.client.draw, prompt="a cat")
        until(lambda: service.unfinished == 1)
        service.end()
        until(lambda: not service._thread.is_alive(), 5)
        assert service.service.is_busy
        service.gate.open.set()
        until(lambda: not service.service.is_busy)


def test_what_hangs_is_seen(bundles: tuple[Path, Path], later: Later) -> None:
    with Running(*bundles, deadline=0.1) as service:
        service.gate.open.clear()
        later(service.client.draw, prompt="a cat")
        until(lambda: service.client("GET", "/healthz").status == 503)
        service.gate.open.set()
        until(lambda: service.client("GET", "/healthz").status == 200)


def test_before_the_first_picture_it_is_not_ready(bundles: tuple[Path, Path]) -> None:
    service = Running(*bundles)
    service.gate.open.clear()
    with ThreadPoolExecutor(1) as threads:
        begun = threads.submit(service.__enter__)
        until(lambda: service.server.started)
        assert service.client("GET", "/healthz").status == 200
        for reply in (service.client("GET", "/readyz"), service.client.draw(prompt="a cat")):
            assert (reply.status, reply.json["type"]) == (503, "urn:pahi-rt:problem:loading")
        service.gate.open.set()
        begun.result()
    service.client.wait_until_ready()
    service.__exit__(None, None, None)


def test_long_prompts_are_read_while_others_are_answered(
    gated: Running, later: Later, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Their places in the queue are theirs meanwhile."""
    tokenizer, read, encode = gated.service.engine.models.default.tokenizer, threading.Event(), Tokenizer.encode
    begun = threading.Event()

    def slowly(self: Tokenizer, prompts: list[str]) -> Encoded:
        if self is tokenizer:
            begun.set()
            assert read.wait(SECONDS)
        return encode(self, prompts)

    monkeypatch.setattr(Tokenizer, "encode", slowly)
    long = later(gated.client.draw, prompts=["a cat " * 600] * 16)
    assert begun.wait(SECONDS)
    assert gated.client("GET", "/healthz").status == 200
    assert (gated.unfinished, gated.waiting) == (16, 0)
    read.set()
    assert long.result().status == 200


def test_places_are_free_again_if_a_request_cannot_be_drawn(bundles: tuple[Path, Path]) -> None:
    with Running(*bundles, queue=4) as service:
        for _ in range(8):
            assert service.client.draw(prompt="a cat", prior_strength=1, prior="gaussian").status == 400
        assert service.unfinished == 0
