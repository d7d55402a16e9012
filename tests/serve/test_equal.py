"""Equal pictures (sglang #28502, vllm-omni #7033, diffusers #2659): alone, in batches and under load, to the byte."""

from __future__ import annotations

import base64
import io
import random
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from pahi_rt import Pipeline, open_bundle
from pahi_rt.choice import choose
from pahi_rt.serve.measure import measure
from tests.serve.conftest import Client, Running

PROMPTS = ("a red apple", "a grinning cat", "two dog", "a blue face of a green cat", "apple " * 40)
REQUESTS, CLIENTS = 500, 24


@dataclass(frozen=True)
class Asked:
    """A request, and how it is made."""

    body: dict[str, Any]
    is_openai: bool

    def shots(self) -> Iterator[tuple[str, int]]:
        """Prompt and seed of each picture, in order."""
        for prompt in self.body.get("prompts") or [self.body["prompt"]]:
            for offset in range(self.body["n" if self.is_openai else "count"]):
                yield prompt, self.body["seed"] + offset


def ask(number: int) -> Asked:
    """Request `number` of a fixed mix of sizes, seeds, strengths, priors and steps."""
    draw = random.Random(number)
    common = {
        "seed": draw.choice([draw.randrange(100), draw.randrange(2**53), 2**64 - 20]),
        "steps": draw.choice([1, 1, 1, 2]),
        "prior": draw.choice(["pahi", "pahi", "hi", "gaussian"]),
    }
    if common["prior"] != "gaussian":
        common["prior_strength"] = draw.choice([0, 0.25, 0.5, 1])
    if draw.random() < 0.3:
        return Asked({**common, "prompt": draw.choice(PROMPTS), "n": draw.choice([1, 1, 2, 3])}, True)
    if draw.random() < 0.3:
        return Asked({**common, "prompts": draw.sample(PROMPTS, 3), "count": draw.choice([1, 1, 2])}, False)
    return Asked({**common, "prompt": draw.choice(PROMPTS), "count": draw.choice([1, 1, 1, 2, 4])}, False)


def answer(client: Client, asked: Asked) -> list[bytes]:
    """The pixels of each picture."""
    path = "/v1/images/generations" if asked.is_openai else "/v1/pictures"
    reply = client.post(path, {"Accept": "application/json"}, **asked.body)
    assert reply.status == 200, reply.body
    pictures = reply.json["data" if asked.is_openai else "pictures"]
    files = [base64.b64decode(picture["b64_json" if asked.is_openai else "b64"]) for picture in pictures]
    return [Image.open(io.BytesIO(file)).tobytes() for file in files]


def expected(folder: Path, requests: list[Asked]) -> list[list[bytes]]:
    """What `Pipeline` draws, one picture at a time."""
    loaded = {
        (steps, prior): Pipeline.load(folder, steps=steps, prior=prior, threads=1)
        for steps in (1, 2)
        for prior in ("pahi", "hi", "gaussian")
    }
    return [
        [
            loaded[asked.body["steps"], asked.body["prior"]](
                prompt, seed=seed, prior_strength=asked.body.get("prior_strength")
            ).tobytes()
            for prompt, seed in asked.shots()
        ]
        for asked in requests
    ]


def test_500_mixed_requests_under_load(even: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pahi_rt.serve.measure.WORTH", -100)  # however slow they seem on a busy machine
    requests = [ask(number) for number in range(REQUESTS)]
    with Running(even, real=True, queue=1000) as service, ThreadPoolExecutor(CLIENTS) as clients:
        found = list(clients.map(lambda asked: answer(service.client, asked), requests))
        mean_batch = service.client.metric("pahi_batch_size_sum") / service.client.metric("pahi_batch_size_count")
    assert found == expected(even, requests)
    assert mean_batch > 1.1, "no batches formed, so nothing was tested"


def test_a_graph_that_draws_something_else_in_batches_is_found_out(contract_with_priors: Path, even: Path) -> None:
    for folder, may_batch in ((contract_with_priors, False), (even, True)):
        bundle = open_bundle(folder)
        for graph in bundle.manifest.graphs:
            chosen = choose(bundle, steps=graph.steps, runtime="onnxruntime", threads=1, prior=graph.prior)
            measured = measure(Pipeline.open(chosen), chosen, 8).measured
            assert [one.size for one in measured if one.is_equal] == ([1, 2, 4, 8] if may_batch else [1]), graph.file


def test_and_then_every_picture_is_drawn_alone(contract_with_priors: Path) -> None:
    requests = [ask(number) for number in range(60)]
    with Running(contract_with_priors, real=True, queue=1000) as service, ThreadPoolExecutor(CLIENTS) as clients:
        found = list(clients.map(lambda asked: answer(service.client, asked), requests))
        assert service.client.metric("pahi_batch_size_sum") == service.client.metric("pahi_batch_size_count")
    assert found == expected(contract_with_priors, requests)


@pytest.mark.slow
def test_the_embedded_model_under_load() -> None:
    bodies = [
        {"prompt": prompt, "seed": seed, "count": count, "steps": 1, "prior": "pahi"}
        for prompt in ("a red apple", "panda", "a rocket")
        for seed, count in ((1, 1), (5, 2), (9, 5))
    ]
    requests = [Asked(body, False) for body in bodies]
    with Running(Path("emoji"), real=True, queue=1000) as service, ThreadPoolExecutor(8) as clients:
        found = list(clients.map(lambda asked: answer(service.client, asked), requests))
    alone = Pipeline.load("emoji")
    assert found == [[alone(prompt, seed=seed).tobytes() for prompt, seed in asked.shots()] for asked in requests]
