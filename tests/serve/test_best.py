"""The best of several, over HTTP, as `generate` chooses it."""

from __future__ import annotations

import base64
import io
import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from PIL.PngImagePlugin import PngImageFile

from pahi_rt import Pipeline
from pahi_rt.judge import Judge
from tests.serve.conftest import SECONDS, Client, Later, Running, until

EMOJI = Path(__file__).parents[2] / "pahi_rt" / "assets" / "emoji"


@pytest.fixture(scope="module")
def running(contract: Path) -> Iterator[Running]:
    with Running(EMOJI, contract, real=True, batch=1) as service:
        yield service


@pytest.fixture(scope="module")
def pipeline() -> Pipeline:
    return Pipeline.load(EMOJI, scorer="emoji-b")


def test_the_best_come_first_with_their_scores(client: Client, pipeline: Pipeline) -> None:
    prompts = ["a red apple", "a grinning cat"]
    reply = client.draw(prompts=prompts, seed=3, candidates=3, keep=2, scorer="emoji-b")
    assert reply.status == 200, reply.body
    expected = list(pipeline.stream(prompts, seed=3, candidates=3, keep=2))
    answered = reply.json
    assert (answered["scorer"], answered["candidates"], answered["seed"]) == ("emoji-b", 3, 3)
    assert [picture["seed"] for picture in answered["pictures"]] == [one.seed for one in expected]
    assert [picture["score"] for picture in answered["pictures"]] == [one.score for one in expected]
    for picture, one in zip(answered["pictures"], expected, strict=True):
        with Image.open(io.BytesIO(base64.b64decode(picture["b64"]))) as image:
            assert isinstance(image, PngImageFile)
            assert image.tobytes() == one.image.tobytes()
            assert (image.text["candidates-seed"], json.loads(image.text["scores"])) == ("3", [one.score])


def test_openais_n_says_how_many_stay(client: Client, pipeline: Pipeline) -> None:
    reply = client.post("/v1/images/generations", prompt="a red apple", n=2, candidates=4, seed=1, scorer="emoji-b")
    assert reply.status == 200, reply.body
    expected = [one.seed for one in pipeline.stream(["a red apple"], seed=1, candidates=4, keep=2)]
    assert [one["seed"] for one in reply.json["data"]] == expected


@pytest.mark.parametrize(
    ("body", "told"),
    [
        ({"candidates": 4, "model": "contract"}, "has no scorer"),
        ({"candidates": 4, "scorer": "nobody"}, "no scorer 'nobody'"),
        ({"scorer": "emoji-a"}, "add candidates"),
        ({"candidates": 4, "keep": 5}, "cannot be kept"),
        ({"candidates": 4, "count": 2}, "leave the count out"),
        ({"keep": 2}, "no candidates"),
        ({"candidates": 17}, "candidates"),
        ({"prompts": ["a", "b", "c"], "prompt": None, "candidates": 8}, "24 pictures are too many"),
    ],
)
def test_what_does_not_fit_is_a_400(client: Client, body: dict[str, Any], told: str) -> None:
    reply = client.draw(**{"prompt": "a red apple", **body})
    assert reply.status == 400
    assert told in reply.body.decode()


@pytest.fixture
def slow(monkeypatch: pytest.MonkeyPatch) -> threading.Event:
    """A scorer that waits for the event."""
    go_on, score = threading.Event(), Judge.score

    def slowly(self: Judge, *rest: Any) -> list[float]:
        assert go_on.wait(SECONDS)
        return score(self, *rest)

    monkeypatch.setattr(Judge, "score", slowly)
    return go_on


def test_scoring_has_its_places_in_the_queue_and_others_do_not_wait_for_it(slow: threading.Event, later: Later) -> None:
    with Running(EMOJI, real=True, queue=5) as service:
        chosen = later(service.client.draw, prompt="a red apple", candidates=4)
        until(lambda: service.unfinished == 4 and not service.waiting)
        assert service.client.draw(prompt="a red apple").status == 200
        refused = service.client.draw(prompt="a red apple", candidates=2)
        assert (refused.status, refused.json["detail"]) == (
            429,
            "4 of 5 places are taken, and this request needs 2",
        )
        slow.set()
        assert chosen.result().status == 200
        assert "score;dur=" in chosen.result().headers["server-timing"]
        until(lambda: not service.unfinished)


def test_the_deadline_holds_while_pictures_are_scored(slow: threading.Event) -> None:
    with Running(EMOJI, deadline=0.3) as service:
        assert service.client.draw(prompt="a red apple", candidates=2).status == 504
        until(lambda: not service.unfinished)
        stream = service.client.post("/v1/images/generations", prompt="a red apple", candidates=2, stream=True)
        assert b'"overdue"' in stream.body
        slow.set()


def test_admission_counts_candidates() -> None:
    with Running(EMOJI, queue=5) as service:
        service.gate.open.clear()
        asking = threading.Thread(target=lambda: service.client.draw(prompt="a red apple", candidates=4))
        asking.start()
        until(lambda: service.unfinished == 4)
        assert service.client.draw(prompt="a red apple", candidates=2).status == 429
        service.gate.open.set()
        asking.join()
