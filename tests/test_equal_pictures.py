"""Equal pictures: prompt, seed, steps, prior and strength decide a picture, whoever draws it.

Whoever adds a way to draw adds it to WAYS. Where a way has more to it, such as batches, load, shards or other graphs,
its own tests compare that.
"""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from pahi_rt import Pipeline, open_bundle
from tests.playground.conftest import Node, node, npm, site

__all__ = ["node", "npm", "site"]

SHOTS = [("a red apple", 0), ("a red apple", 2**64 - 1), ("PANDA!! 🐼", 7), ("cat " * 200, 8)]
"""Prompts and seeds."""
EMOJI = open_bundle("emoji").path

Draw = Callable[[float], list[NDArray[Any]]]
"""Draws all of SHOTS at a strength of the prior, each [H, W, 3]."""


def pixels(file: bytes) -> NDArray[Any]:
    return np.asarray(Image.open(io.BytesIO(file)), int)


@contextmanager
def serving() -> Iterator[Any]:
    pytest.importorskip("starlette")
    from tests.serve.conftest import Running

    with Running(EMOJI, real=True) as service:
        yield service.client


@pytest.fixture
def pictures() -> Iterator[Draw]:
    """POST /v1/pictures."""
    with serving() as client:
        yield lambda strength: [
            pixels(client.draw(prompt=prompt, seed=seed, prior_strength=strength).body) for prompt, seed in SHOTS
        ]


@pytest.fixture
def generations() -> Iterator[Draw]:
    """OpenAI's POST /v1/images/generations."""
    with serving() as client:

        def one(**asked: Any) -> NDArray[Any]:
            (picture,) = client.post("/v1/images/generations", **asked).json["data"]
            return pixels(base64.b64decode(picture["b64_json"]))

        yield lambda strength: [one(prompt=prompt, seed=seed, prior_strength=strength) for prompt, seed in SHOTS]


@pytest.fixture
def live() -> Iterator[Draw]:
    """WS /v1/live."""
    with serving() as client:
        from websockets.sync.client import connect

        def one(connection: Any, prompt: str, seed: int, strength: float) -> NDArray[Any]:
            asked = {"id": 1, "prompt": prompt, "seed": seed, "prior_strengths": [strength]}
            connection.send(json.dumps(asked))
            assert json.loads(connection.recv(60))["seed"] == seed
            return pixels(connection.recv(60))

        with connect(f"ws://127.0.0.1:{client.port}/v1/live") as connection:
            yield lambda strength: [one(connection, prompt, seed, strength) for prompt, seed in SHOTS]


@pytest.fixture
def bulk(tmp_path: Path) -> Draw:
    pytest.importorskip("pyarrow")
    from pahi_rt.bulk.artist import Artist, Task
    from pahi_rt.bulk.earlier import Earlier
    from pahi_rt.bulk.rows import Row
    from pahi_rt.bulk.store import LocalStore
    from tests.bulk.conftest import plain_settings

    pipeline = Pipeline.load(EMOJI, threads=1)
    # Other formats refuse seeds of 2**63 and more.
    chosen = {"prior": pipeline.prior, "output_format": "parquet", "number_sample_per_shard": len(SHOTS)}
    settings = plain_settings(pipeline.bundle, **chosen)

    def draw(strength: float) -> list[NDArray[Any]]:
        store, asked = LocalStore(tmp_path / str(strength)), replace(settings, prior_strength=strength)
        store.prepare()
        rows = tuple(Row(str(number), prompt, seed) for number, (prompt, seed) in enumerate(SHOTS))
        Artist(pipeline, store, asked, {}).draw(Task(0, rows))
        with Earlier(store, 0, asked) as shard:
            return [pixels(shard.image(row["key"])) for row in shard.rows]

    return draw


@pytest.fixture
def c_library(tmp_path: Path) -> Draw:
    from tests.cpp.library import DEPENDENCIES, Library, build

    if not DEPENDENCIES.is_dir():
        pytest.skip(f"there is no {DEPENDENCIES}: run make .venv/.cpp")
    opened = Library(build(tmp_path) / "libpahi.so").open(EMOJI)
    return lambda strength: [opened.draw(prompt, seed=seed, prior_strength=strength)[0] for prompt, seed in SHOTS]


@pytest.fixture
def browser(node: Node, site: Path) -> Draw:
    """The page's modules, in Node.js."""
    fixed = {"count": 1, "steps": 1, "prior": "pahi"}

    def draw(strength: float) -> list[NDArray[Any]]:
        asked = [{"prompt": p, "seed": str(s), "prior_strengths": [strength], **fixed} for p, s in SHOTS]
        drawn = node("pictures", site, {"requests": asked})["pictures"]
        return [np.frombuffer(base64.b64decode(one["rgb"]), np.uint8).reshape(128, 128, 3) for one in drawn]

    return draw


WAYS = [
    ("pictures", 0),
    ("generations", 0),
    ("live", 0),
    ("bulk", 0),
    pytest.param("c_library", 1, marks=pytest.mark.cpp),
    pytest.param("browser", 2, marks=pytest.mark.browser),
]
"""A fixture, and the levels of 255 by which its pictures may differ: 0 on the same runtime."""


@pytest.mark.parametrize(("way", "levels"), WAYS)
def test_they_are_those_of_the_pipeline(way: str, levels: int, request: pytest.FixtureRequest) -> None:
    draw: Draw = request.getfixturevalue(way)
    pipeline = Pipeline.load(EMOJI, runtime="onnxruntime", threads=1)
    for strength in (0.0, 0.5, 1.0):
        drawn = draw(strength)
        for (prompt, seed), found in zip(SHOTS, drawn, strict=True):
            expected = np.asarray(pipeline(prompt, seed=seed, prior_strength=strength), int)
            assert np.abs(found.astype(int) - expected).max() <= levels, (prompt, seed, strength)
