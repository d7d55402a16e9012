"""OpenAI's own client, and what other programs that speak its dialect send."""

from __future__ import annotations

import asyncio
import base64
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from pahi_rt import Pipeline
from tests.serve.conftest import Client, Running

openai = pytest.importorskip("openai", reason="OpenAI's client is not installed")
PATH = "/v1/images/generations"


@pytest.fixture(scope="module")
def official(client: Client) -> Iterator[Any]:
    with openai.OpenAI(base_url=f"{client.url}/v1", api_key="any", max_retries=0) as made:
        yield made


@pytest.fixture(scope="module")
def expected(contract_with_priors: Path) -> list[bytes]:
    return [image.tobytes() for image in Pipeline.load(contract_with_priors)("a red apple", seed=7, count=3)]


def pixels(encoded: str) -> bytes:
    return Image.open(io.BytesIO(base64.b64decode(encoded))).convert("RGB").tobytes()


def test_the_official_client(official: Any, expected: list[bytes]) -> None:
    reply = official.images.generate(model="dall-e-3", prompt="a red apple", n=3, extra_body={"seed": 7})
    assert [pixels(image.b64_json) for image in reply.data] == expected
    assert (reply.seed, [image.seed for image in reply.data]) == (7, [7, 8, 9])
    assert reply.usage.total_tokens == 0


def test_the_official_client_without_waiting(client: Client, expected: list[bytes]) -> None:
    async def generate() -> list[Any]:
        async with openai.AsyncOpenAI(base_url=f"{client.url}/v1", api_key="any", max_retries=0) as official:
            asked = (
                official.images.generate(model="any", prompt="a red apple", extra_body={"seed": 7 + index})
                for index in range(3)
            )
            return await asyncio.gather(*asked)

    assert [pixels(reply.data[0].b64_json) for reply in asyncio.run(generate())] == expected


def test_the_official_client_streams(official: Any, expected: list[bytes]) -> None:
    stream = official.images.generate(
        model="gpt-image-1", prompt="a red apple", n=2, stream=True, partial_images=2, extra_body={"seed": 7}
    )
    events = list(stream)
    assert [event.type for event in events] == ["image_generation.completed"] * 2
    assert [pixels(event.b64_json) for event in events] == expected[:2]
    assert [event.seed for event in events] == [7, 8]


def test_the_official_client_lists_models(official: Any) -> None:
    listed = list(official.models.list())
    assert [model.id for model in listed] == ["contract-priors", "contract"]
    assert (listed[0].steps, listed[0].priors, listed[0].default_prior) == ([1, 2], ["pahi", "hi", "gaussian"], "pahi")
    assert official.models.retrieve("contract").height == 32


def test_the_official_client_understands_errors(official: Any) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        official.images.generate(prompt="a red apple", n=11)
    assert caught.value.param == "n"
    assert "fix:" in caught.value.message
    with pytest.raises(openai.NotFoundError):
        official.models.retrieve("flux")


def test_the_official_client_is_told_to_wait(gated: Running) -> None:
    gated.gate.open.clear()
    client = gated.client
    with openai.OpenAI(base_url=f"{client.url}/v1", api_key="any", max_retries=0) as official:
        gated.server.service.engine.is_draining = True
        with pytest.raises(openai.InternalServerError) as caught:
            official.images.generate(prompt="a red apple")
        gated.server.service.engine.is_draining = False
    assert caught.value.status_code == 503
    assert int(caught.value.response.headers["retry-after"]) >= 1


def test_a_stream_that_fails_says_so(gated: Running) -> None:
    gated.gate.error = lambda ids: RuntimeError("broken")
    official = openai.OpenAI(base_url=f"{gated.client.url}/v1", api_key="any", max_retries=0)
    with official, pytest.raises(openai.APIError) as caught:
        list(official.images.generate(prompt="a red apple", stream=True))
    assert "broken" not in str(caught.value)


@pytest.mark.parametrize(
    "extra",
    [
        {"response_format": "b64_json", "model": "stable-diffusion", "size": "auto"},  # Open WebUI
        {"size": "32x32", "quality": "hd", "style": "vivid", "user": "me"},  # nextcloud
        {"model": None, "n": None, "size": None, "response_format": None, "stream": None, "seed": None},
        {"model": "", "size": "", "background": "auto", "moderation": "low", "output_format": "png"},
        {"negative_prompt": "bad", "num_inference_steps": 4, "guidance_scale": 7.5, "quality": 3},
        {"output_format": "jpeg", "output_compression": 0},
        {"stream": False, "partial_images": 0},
    ],
)
def test_what_programs_send(client: Client, extra: dict[str, Any]) -> None:
    reply = client.post(PATH, prompt="a red apple", **extra)
    assert reply.status == 200, reply.json
    assert len(reply.json["data"]) == 1
    assert reply.headers["x-seed"] == str(reply.json["seed"])


def test_it_needs_no_content_type(client: Client) -> None:
    for kind in ("text/plain", "application/x-www-form-urlencoded"):
        assert client("POST", PATH, {"prompt": "a red apple"}, {"Content-Type": kind}).status == 200


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"prompt": "a", "response_format": "url"}, "response_format"),
        ({"prompt": "a", "size": "1024x1024"}, "size"),
        ({"prompt": "a", "n": 0}, "n"),
        ({"prompt": "a", "n": 11}, "n"),
        ({"prompt": ""}, "prompt"),
        ({}, "prompt"),
        ({"prompt": "a", "steps": 9}, "steps"),
        ({"prompt": "a", "output_format": "gif"}, "output_format"),
    ],
)
def test_errors_have_openais_shape(client: Client, body: dict[str, Any], param: str) -> None:
    reply = client.post(PATH, **body)
    error = reply.json["error"]
    assert (reply.status, error["type"], error["param"]) == (400, "invalid_request_error", param)
    assert error["fix"] in error["message"]


def test_a_stream_is_of_events(client: Client) -> None:
    reply = client.post(PATH, prompt="a red apple", stream=True, seed=7)
    assert reply.headers["content-type"].startswith("text/event-stream")
    assert reply.headers["x-seed"] == "7"
    events = [block for block in reply.body.decode().split("\n\n") if block.startswith("event: ")]
    name, data = events[0].split("\n")
    assert name == "event: image_generation.completed"
    assert json.loads(data.removeprefix("data: "))["seed"] == 7
