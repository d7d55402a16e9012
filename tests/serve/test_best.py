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
from tests.serve.conftest import Client, Running, until

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


def test_admission_counts_candidates() -> None:
    with Running(EMOJI, queue=5) as service:
        service.gate.open.clear()
        asking = threading.Thread(target=lambda: service.client.draw(prompt="a red apple", candidates=4))
        asking.start()
        until(lambda: service.unfinished == 4)
        assert service.client.draw(prompt="a red apple", candidates=2).status == 429
        service.gate.open.set()
        asking.join()
