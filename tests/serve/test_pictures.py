from __future__ import annotations

import base64
import io
import json
import shutil
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote

import pytest
from PIL import Image

from pahi_rt import Pipeline, __version__, open_bundle
from pahi_rt.drawing import Drawing, encode_png
from tests.serve.conftest import Client, Running


@pytest.fixture(scope="module")
def pipeline(contract_with_priors: Path) -> Pipeline:
    return Pipeline.load(contract_with_priors)


def pixels(file: bytes) -> bytes:
    return Image.open(io.BytesIO(file)).convert("RGB").tobytes()


def test_one_picture_is_a_png_as_generate_writes_it(client: Client, pipeline: Pipeline) -> None:
    reply = client.draw(prompt="a red apple", seed=7)
    assert (reply.status, reply.headers["content-type"]) == (200, "image/png")
    bundle = pipeline.bundle
    drawing = Drawing(
        prompts=("a red apple",),
        seed=7,
        count=1,
        steps=1,
        bundle=bundle.manifest.name,
        bundle_sha256=bundle.sha256,
        version=__version__,
        prior="pahi",
        prior_strength=1.0,
        precision=bundle.precisions[0],
    )
    assert reply.body == encode_png(pipeline("a red apple", seed=7), drawing)


def test_every_reply_says_what_it_takes_to_draw_it_again(client: Client, pipeline: Pipeline) -> None:
    reply = client.draw(prompt="a red apple", headers={"X-Request-Id": "mine-1"})
    assert reply.headers["x-request-id"] == "mine-1"
    assert reply.headers["x-bundle-sha256"] == pipeline.bundle.sha256
    again = pipeline("a red apple", seed=int(reply.headers["x-seed"]))
    assert pixels(reply.body) == again.tobytes()
    stages = [part.partition(";dur=")[0] for part in reply.headers["server-timing"].split(", ")]
    assert stages == ["queue", "tokenise", "run", "encode"]


def test_a_request_id_that_is_no_word_is_replaced(client: Client) -> None:
    reply = client("GET", "/healthz", headers={"X-Request-Id": "a b;c" + "x" * 200})
    assert len(reply.headers["x-request-id"]) == 32


def test_a_body_from_a_file_of_windows(client: Client) -> None:
    plain = b'{"prompt": "a cat", "seed": 1}'
    assert client("POST", "/v1/pictures", b"\xef\xbb\xbf" + plain).body == client("POST", "/v1/pictures", plain).body


def test_several_pictures_are_json(client: Client, pipeline: Pipeline) -> None:
    reply = client.draw(prompts=["a red apple", "two dog"], seed=3, count=2, prior_strength=0.5)
    described = reply.json
    assert [(p["prompt"], p["seed"], p["prior_strength"]) for p in described["pictures"]] == [
        (prompt, seed, 0.5) for prompt in ("a red apple", "two dog") for seed in (3, 4)
    ]
    for picture in described["pictures"]:
        file = base64.b64decode(picture["b64"])
        assert len(file) == picture["bytes"]
        assert pixels(file) == pipeline(picture["prompt"], seed=picture["seed"], prior_strength=0.5).tobytes()
    assert set(described["timing"]) == {"queue_ms", "tokenise_ms", "run_ms", "encode_ms"}


def test_several_pictures_as_parts(client: Client) -> None:
    reply = client.draw(prompt="a red apple", seed=3, count=3, headers={"Accept": "multipart/mixed"})
    boundary = reply.headers["content-type"].partition("boundary=")[2]
    first, *parts = [part.partition(b"\r\n\r\n") for part in reply.body.split(f"--{boundary}".encode())[1:-1]]
    assert [p["seed"] for p in json.loads(first[2])["pictures"]] == [3, 4, 5]
    files = [part[2].removesuffix(b"\r\n") for part in parts]
    assert [pixels(file) for file in files] == [
        pixels(client.draw(prompt="a red apple", seed=seed).body) for seed in (3, 4, 5)
    ]


def test_one_picture_as_json_where_it_is_asked_for(client: Client) -> None:
    reply = client.draw(prompt="a red apple", seed=3, headers={"Accept": "application/json"})
    assert len(reply.json["pictures"]) == 1


@pytest.mark.parametrize(("format", "quality"), [("webp", 50), ("jpeg", None), ("jpeg", 100)])
def test_other_formats(client: Client, pipeline: Pipeline, format: str, quality: int | None) -> None:
    reply = client.draw(prompt="a red apple", seed=7, format=format, quality=quality)
    assert reply.headers["content-type"] == f"image/{format}"
    found = Image.open(io.BytesIO(reply.body))
    assert found.format == format.upper()
    assert found.size == pipeline("a red apple", seed=7).size


def test_a_bundle_with_an_odd_name_and_two_steps_alone(contract: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(contract, tmp_path / "odd"))
    manifest = json.loads((folder / "pahi.json").read_text())
    graphs = [graph for graph in manifest["graphs"] if graph["steps"] == 2]
    name = "кошка/1 100 %"
    (folder / "pahi.json").write_text(json.dumps({**manifest, "name": name, "graphs": graphs}))
    with Running(folder, real=True) as service:
        reply = service.client.draw(prompt="a cat", seed=7)
        assert (reply.status, unquote(reply.headers["x-model"])) == (200, name)
        assert pixels(reply.body) == Pipeline.load(folder, steps=2)("a cat", seed=7).tobytes()
        assert service.client.post("/v1/images/generations", prompt="a cat").status == 200
        assert service.client("GET", f"/v1/models/{quote(name, safe='')}").json["steps"] == [2]
        assert service.client("GET", f"/v1/models/{quote(name, safe='')}/vocabulary").status in (200, 404)


@pytest.mark.parametrize(("steps", "prior"), [(1, "hi"), (2, "pahi"), (2, "gaussian")])
def test_steps_and_prior(client: Client, contract_with_priors: Path, steps: int, prior: str) -> None:
    reply = client.draw(prompt="a cat", seed=1, steps=steps, prior=prior)
    assert (
        pixels(reply.body) == Pipeline.load(contract_with_priors, steps=steps, prior=prior)("a cat", seed=1).tobytes()
    )


def test_models_by_name(client: Client, contract: Path) -> None:
    name = open_bundle(contract).manifest.name
    reply = client.draw(prompt="a cat", seed=1, model=name)
    assert pixels(reply.body) == Pipeline.load(contract)("a cat", seed=1).tobytes()
    assert reply.headers["x-model"] == name


@pytest.mark.parametrize(
    ("body", "names"),
    [
        ({}, "prompt"),
        ({"prompt": "a", "prompts": ["b"]}, "prompt"),
        ({"prompt": ""}, "prompt"),
        ({"prompt": "  "}, "empty"),
        ({"prompt": "a\0b"}, "NUL"),
        ({"prompt": 7}, "prompt"),
        ({"prompt": "x" * 4001}, "prompt"),
        ({"prompts": []}, "prompts"),
        ({"prompts": ["a"] * 17}, "prompts"),
        ({"prompts": ["a"] * 5, "count": 4}, "20 pictures"),
        ({"prompt": "a", "seed": -1}, "seed"),
        ({"prompt": "a", "seed": 2**64}, "seed"),
        ({"prompt": "a", "seed": 2**64 - 1, "count": 2}, "seed"),
        ({"prompt": "a", "seed": True}, "seed"),
        ({"prompt": "a", "seed": "7"}, "seed"),
        ({"prompt": "a", "count": 0}, "count"),
        ({"prompt": "a", "steps": 3}, "steps"),
        ({"prompt": "a", "prior": "other"}, "prior"),
        ({"prompt": "a", "prior_strength": 1.5}, "prior_strength"),
        ({"prompt": "a", "prior": "gaussian", "prior_strength": 0.5}, "strength"),
        ({"prompt": "a", "format": "gif"}, "format"),
        ({"prompt": "a", "format": "jpeg", "quality": 0}, "quality"),
        ({"prompt": "a", "sed": 7}, "sed"),
    ],
)
def test_what_cannot_be_drawn_is_a_problem_with_a_fix(client: Client, body: dict[str, Any], names: str) -> None:
    reply = client.draw(**body)
    assert (reply.status, reply.headers["content-type"]) == (400, "application/problem+json")
    assert names in reply.json["detail"]
    assert reply.json["fix"]
    assert reply.json["request_id"] == reply.headers["x-request-id"]


def test_a_model_that_is_not_there(client: Client) -> None:
    reply = client.draw(prompt="a", model="flux")
    assert reply.status == 404
    assert "contract" in reply.json["fix"]


@pytest.mark.parametrize(
    "raw", [b"", b"{", b"[]", b'"a"', b"\xff", b'{"prompt": "\xff"}', b'{"prompt": "\\ud800"}', b"[" * 50_000, b"null"]
)
@pytest.mark.parametrize("path", ["/v1/pictures", "/v1/images/generations"])
def test_what_is_no_json(client: Client, path: str, raw: bytes) -> None:
    assert client("POST", path, raw).status == 400


def test_a_vocabulary(client: Client, contract: Path) -> None:
    reply = client("GET", "/v1/models/contract/vocabulary")
    assert (reply.status, reply.body) == (200, (contract / "vocabulary.json").read_bytes())
    assert client("GET", "/v1/models/other/vocabulary").status == 404


def test_words_that_the_model_does_not_know(client: Client) -> None:
    found = client.draw(prompt="a zorblax appel", model="contract", count=2).json["unknown_words"]
    assert [word["word"] for word in found] == ["zorblax", "appel"]
    assert found[1]["nearest"][0] == "apple"


@pytest.mark.parametrize(("method", "path", "status"), [("GET", "/v1/pictures", 405), ("GET", "/nothing", 404)])
def test_routes_that_are_not_there(client: Client, method: str, path: str, status: int) -> None:
    reply = client(method, path)
    assert (reply.status, reply.json["status"]) == (status, status)
    assert reply.json["fix"]


def test_health_and_metrics(client: Client) -> None:
    assert client("GET", "/healthz").status == client("GET", "/readyz").status == 200
    before = client.metric("pahi_images_total")
    client.draw(prompt="a", count=3)
    assert client.metric("pahi_images_total") == before + 3
    assert client.metric("pahi_image_pixels_total") >= 3 * 32 * 32
    for name in ("pahi_request_queue_wait_seconds_count", "pahi_stage_seconds_count", "pahi_batch_size_count"):
        assert client.metric(name) >= 1
    assert client.metric("pahi_num_requests_waiting") == 0
    assert client.metric("pahi_queue_limit_images") >= 1


def test_the_document_of_the_routes(client: Client) -> None:
    document = client("GET", "/openapi.json").json
    assert document["openapi"].startswith("3.1")
    assert {"/v1/pictures", "/v1/images/generations", "/v1/models", "/healthz", "/readyz"} <= set(document["paths"])
