"""Repositories on the real Triton server: what goes in, what comes out, and what must not bring it down."""

from __future__ import annotations

import io
import os
import re
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from typer.testing import CliRunner

from pahi_rt import Pipeline
from pahi_rt.cli import app
from pahi_rt.export.triton.config import Batching
from pahi_rt.export.triton.repository import Choice, write_repository
from pahi_rt.noise import draw_noise
from tests.export.triton.server import ENVIRONMENT, ROOT, Server, serving

pytestmark = [
    pytest.mark.triton,
    pytest.mark.skipif(not ENVIRONMENT.is_dir(), reason=f"there is no {ENVIRONMENT}: run make .venv/.triton"),
]

Ask = Callable[..., NDArray[Any]]
FIELDS = {"prompt": ("BYTES", np.object_), "seed": ("UINT64", np.uint64), "prior_strength": ("FP32", np.float32)}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    scratch = tmp_path_factory.mktemp("triton")
    repository = write_repository("emoji", scratch / "models", batching=Batching(most=4, delay_us=2000))
    with serving(repository, scratch, "--model-control-mode=explicit", "--load-model=*") as running:
        yield running


@pytest.fixture(scope="module")
def pipeline() -> Pipeline:
    return Pipeline.load("emoji")


def connect(server: Server, protocol: str) -> Any:
    import tritonclient.grpc
    import tritonclient.http

    if protocol == "grpc":
        return tritonclient.grpc.InferenceServerClient(server.grpc)
    return tritonclient.http.InferenceServerClient(server.http, concurrency=4, network_timeout=120)


def inputs(protocol: str, **values: object) -> list[Any]:
    from tritonclient import grpc, http

    made = []
    for name, value in values.items():
        kind, dtype = FIELDS[name]
        array: NDArray[Any] = np.asarray(value, dtype).reshape(-1, 1)
        made.append((grpc if protocol == "grpc" else http).InferInput(name, list(array.shape), kind))
        made[-1].set_data_from_numpy(array)
    return made


@pytest.fixture(params=["http", "grpc"])
def ask(request: pytest.FixtureRequest, server: Server) -> Iterator[Ask]:
    """Draw by either protocol: a prompt, a seed, a strength."""
    client = connect(server, request.param)

    def draw(prompt: object, seed: object = 1, strength: object = 1.0, model: str = "generate") -> NDArray[Any]:
        given = inputs(request.param, prompt=prompt, seed=seed, prior_strength=strength)
        output = "png" if model == "generate_png" else "image"
        return np.asarray(client.infer(model, given).as_numpy(output))

    yield draw
    client.close()


@pytest.mark.parametrize("seed", [0, 7, 2**64 - 1])
def test_pictures_are_those_of_python(ask: Ask, pipeline: Pipeline, seed: int) -> None:
    for strength in (0.0, 0.5, 1.0):
        expected = np.asarray(pipeline("a red apple", seed=seed, prior_strength=strength))
        assert np.array_equal(ask(b"a red apple", seed, strength)[0], expected)


def test_several_pictures_in_one_request(ask: Ask, pipeline: Pipeline) -> None:
    prompts, seeds = ["panda", "rocket", "skull"], [3, 4, 5]
    pictures = ask([text.encode() for text in prompts], seeds, [1.0, 0.0, 0.5])
    for picture, prompt, seed, strength in zip(pictures, prompts, seeds, (1.0, 0.0, 0.5), strict=True):
        assert differ(picture, pipeline(prompt, seed=seed, prior_strength=strength)) <= 1


def test_png(ask: Ask) -> None:
    (file,) = ask(b"panda", model="generate_png").ravel()
    with Image.open(io.BytesIO(file)) as image:
        assert image.format == "PNG"
        assert np.array_equal(np.asarray(image), ask(b"panda")[0])


@pytest.mark.parametrize("text", ["🦊 fox", "cat " * 2500, "ÄÖÜ \u202e\U0001f600", "a\tred\nheart"])
def test_any_text_is_drawn(ask: Ask, pipeline: Pipeline, text: str) -> None:
    assert np.array_equal(ask(text.encode(), 2)[0], np.asarray(pipeline(text, seed=2)))


@pytest.mark.parametrize(
    "prompt, message", [(b"\xff\xfe", "not UTF-8"), (b"", "empty"), (b"  ", "empty"), (b"a\0b", "NUL byte")]
)
def test_what_is_no_prompt_is_refused(ask: Ask, prompt: bytes, message: str) -> None:
    with pytest.raises(Exception, match=message):
        ask(prompt)
    assert ask(b"panda").shape == (1, 128, 128, 3)


@pytest.mark.parametrize("strength", [-0.1, 1.5, np.nan, np.inf])
def test_a_strength_out_of_range_is_refused(ask: Ask, strength: float) -> None:
    with pytest.raises(Exception, match="no prior strength"):
        ask(b"panda", 1, strength)


def test_a_bad_request_spoils_no_other(server: Server, pipeline: Pipeline) -> None:
    """The server waits two milliseconds for others, so that those of one moment share a batch."""
    client = connect(server, "grpc")
    bad = {3: b"", 5: b"\xff"}

    def draw(seed: int) -> object:
        given = inputs("grpc", prompt=bad.get(seed, b"panda"), seed=seed, prior_strength=7.0 if seed == 6 else 1.0)
        try:
            return client.infer("generate", given).as_numpy("image")[0]
        except Exception as error:
            return str(error)

    with ThreadPoolExecutor(8) as pool:
        results = list(pool.map(draw, range(8)))
    for seed, result in enumerate(results):
        if seed in (3, 5, 6):
            assert re.search("empty|not UTF-8|no prior strength", str(result))
        else:
            assert isinstance(result, np.ndarray) and differ(result, pipeline("panda", seed=seed)) <= 1


def test_a_thousand_bad_requests_do_not_end_the_server(server: Server, pipeline: Pipeline) -> None:
    client = connect(server, "grpc")
    given = inputs("grpc", prompt=b"", seed=1, prior_strength=1.0)
    for _ in range(1000):
        with pytest.raises(Exception, match="empty"):
            client.infer("generate", given, client_timeout=60)
    picture = client.infer("generate", inputs("grpc", prompt=b"panda", seed=3, prior_strength=1.0)).as_numpy("image")
    assert np.array_equal(picture[0], np.asarray(pipeline("panda", seed=3)))


def test_noise_alone(server: Server) -> None:
    client = connect(server, "http")
    noise = client.infer("noise", inputs("http", seed=[3, 2**64 - 1])).as_numpy("noise")
    assert np.array_equal(noise, draw_noise([3, 2**64 - 1], (4, 16, 16)))


@pytest.mark.parametrize("protocol", ["http", "grpc"])
def test_wrong_shapes_and_types_are_refused(server: Server, protocol: str) -> None:
    client = connect(server, protocol)
    good = inputs(protocol, prompt=b"panda", seed=1, prior_strength=1.0)
    with pytest.raises(Exception, match="batch"):
        client.infer("generate", [*inputs(protocol, prompt=[b"a", b"b"]), *good[1:]])
    with pytest.raises(Exception, match="expected 3 inputs"):
        client.infer("generate", good[:2])
    with pytest.raises(Exception, match="batch"):
        client.infer("generate", inputs(protocol, prompt=[b"a"] * 5, seed=[1] * 5, prior_strength=[1.0] * 5))
    swapped = type(good[1])("seed", [1, 1], "FP32")
    swapped.set_data_from_numpy(np.ones((1, 1), np.float32))
    with pytest.raises(Exception, match="UINT64"):
        client.infer("generate", [good[0], swapped, good[2]])
    assert client.infer("generate", good).as_numpy("image").shape == (1, 128, 128, 3)


def test_two_hundred_at_once_and_none_is_lost(server: Server, pipeline: Pipeline) -> None:
    client = connect(server, "grpc")

    def draw(seed: int) -> NDArray[np.uint8]:
        given = inputs("grpc", prompt=b"red heart", seed=seed, prior_strength=1.0)
        return np.asarray(client.infer("generate", given).as_numpy("image")[0])

    with ThreadPoolExecutor(200) as pool:
        pictures = list(pool.map(draw, range(200)))
    for seed in range(0, 200, 20):
        assert differ(pictures[seed], pipeline("red heart", seed=seed)) <= 1
    assert len({picture.tobytes() for picture in pictures}) == 200


def test_cancelled_requests_leave_the_server_well(server: Server) -> None:
    client = connect(server, "grpc")
    ended: list[object] = []
    for seed in range(40):
        given = inputs("grpc", prompt=b"panda", seed=seed, prior_strength=1.0)
        client.async_infer("generate", given, lambda result, error: ended.append(error or result)).cancel()
    given = inputs("grpc", prompt=b"panda", seed=1, prior_strength=1.0)
    assert client.infer("generate", given).as_numpy("image").shape == (1, 128, 128, 3)
    assert len(ended) == 40


def test_memory_does_not_grow(server: Server, ask: Ask) -> None:
    for seed in range(100):
        ask(b"guitar", seed)
    before = resident(server.pid)
    for seed in range(500):
        ask(b"guitar", seed)
    assert resident(server.pid) - before < 16e6


def test_the_graph_can_be_unloaded_and_loaded_again(server: Server, pipeline: Pipeline) -> None:
    client = connect(server, "http")
    given = inputs("http", prompt=b"panda", seed=3, prior_strength=1.0)
    for name in ("generate", "generate_png", "pipeline"):
        client.unload_model(name)
    with pytest.raises(Exception, match="unknown model|not ready|no available"):
        client.infer("generate", given)
    for name in ("pipeline", "generate", "generate_png"):
        client.load_model(name)
    picture = client.infer("generate", given).as_numpy("image")[0]
    assert np.array_equal(picture, np.asarray(pipeline("panda", seed=3)))


def test_the_client_of_the_documentation(
    server: Server, pipeline: Pipeline, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = (ROOT / "docs" / "embedding.md").read_text(encoding="utf-8")
    (command,) = re.findall(r"```sh\n(pahi-rt embed triton .*)\n```", page)
    (code,) = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    monkeypatch.chdir(tmp_path)
    assert CliRunner().invoke(app, command.split()[1:]).exit_code == 0
    assert (tmp_path / "models" / "generate" / "config.pbtxt").is_file()
    exec(code.replace("localhost:8000", server.http), {})
    with Image.open("cat.png") as image:
        assert np.array_equal(np.asarray(image), np.asarray(pipeline("a grinning cat", seed=7)))


def test_without_a_prior_there_is_no_strength(tmp_path: Path) -> None:
    repository = write_repository("emoji", tmp_path / "models", Choice(prior="gaussian", steps=2))
    with serving(repository, tmp_path) as running:
        client = connect(running, "http")
        picture = client.infer("generate", inputs("http", prompt=b"panda", seed=3)).as_numpy("image")[0]
    expected = Pipeline.load("emoji", prior="gaussian", steps=2)("panda", seed=3)
    assert np.array_equal(picture, np.asarray(expected))


def differ(picture: NDArray[np.uint8], expected: Image.Image) -> int:
    """The largest difference in levels: batches may change the last bit of a sum."""
    return int(np.abs(picture.astype(int) - np.asarray(expected, int)).max())


def resident(pid: int) -> int:
    """Bytes of the server and of its models' processes."""
    processes = [pid]
    for process in processes:
        for task in Path(f"/proc/{process}/task").iterdir():
            processes += map(int, (task / "children").read_text().split())
    pages = [int(Path(f"/proc/{process}/statm").read_text().split()[1]) for process in processes]
    return sum(pages) * os.sysconf("SC_PAGE_SIZE")
