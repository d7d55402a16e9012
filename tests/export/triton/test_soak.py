"""Triton's memory by cause, server and model processes apart, and what happens to requests while models reload.

`make test ARGS="-m 'triton and slow' -s"` prints a table per cause.
"""

from __future__ import annotations

import os
import re
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pahi_rt import Pipeline
from pahi_rt.export.triton.config import Batching
from pahi_rt.export.triton.repository import write_repository
from tests.export.triton.server import ENVIRONMENT, Server, serving
from tests.export.triton.test_server import connect, inputs

pytestmark = [
    pytest.mark.slow,
    pytest.mark.triton,
    pytest.mark.skipif(not ENVIRONMENT.is_dir(), reason=f"there is no {ENVIRONMENT}: run make .venv/.triton"),
]

SECONDS = float(os.environ.get("SOAK_SECONDS", "600"))
"""For each cause."""
SAMPLES = 20
MODELS = ("pipeline", "generate", "generate_png")
"""In the order in which they can be loaded."""


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    repository = write_repository("emoji", tmp_path / "models", batching=Batching(most=4, delay_us=2000))
    with serving(repository, tmp_path, "--model-control-mode=explicit", "--load-model=*") as running:
        yield running


def test_normal_prompts(server: Server) -> None:
    client = connect(server, "grpc")
    draw(client, 200)
    table = watch(server, lambda turn: client.infer("generate", good(turn)))
    show("normal prompts", table)
    check_flat(table)


def test_prompts_of_a_megabyte(server: Server) -> None:
    """Refused by the tokenizer, but each reaches its process through shared memory, which grows for it."""
    client = connect(server, "grpc")
    large = b"cat " * (1 << 18)

    def refuse(turn: int) -> None:
        with pytest.raises(Exception, match="has 1048576 characters"):
            client.infer("generate", good(turn, large))

    table = watch(server, refuse)
    show("prompts of 1 MB", table)
    check_flat(table)


def test_reloads(server: Server) -> None:
    client = connect(server, "grpc")
    draw(client, 20)
    table = watch(server, lambda turn: reload(client))
    show("reloads", table)
    check_flat(table)


@pytest.mark.parametrize("way", ["unloaded first", "in place"])
def test_no_request_is_lost_while_models_reload(server: Server, tmp_path: Path, way: str) -> None:
    """Each is answered with its picture within its time, or refused since the model is not there."""
    expected = {seed: np.asarray(Pipeline.load("emoji")("panda", seed=seed)) for seed in range(8)}
    ended, outcomes = threading.Event(), Counter[str]()

    def ask(worker: int) -> None:
        client = connect(server, "grpc")
        turn = worker
        while not ended.is_set():
            turn += 1
            outcomes[outcome(client, turn % 8, expected)] += 1

    workers = [threading.Thread(target=ask, args=(worker,)) for worker in range(4)]
    for worker in workers:
        worker.start()
    client = connect(server, "grpc")
    for _ in range(20):
        if way == "in place":
            # Triton reloads a model whose files have changed, and serves the old one until the new one is ready.
            (tmp_path / "models" / "pipeline" / "1" / "model.py").touch()
            client.load_model("pipeline")
        else:
            reload(client)
        time.sleep(0.5)
    ended.set()
    for worker in workers:
        worker.join(60)
    print(f"\nduring 20 reloads, {way}: {dict(outcomes)}")
    assert not any(worker.is_alive() for worker in workers)
    assert outcomes["answered"] > 0
    assert set(outcomes) <= ({"answered"} if way == "in place" else {"answered", "refused"}), outcomes


def outcome(client: Any, seed: int, expected: dict[int, Any]) -> str:
    try:
        picture = client.infer("generate", good(seed), client_timeout=30).as_numpy("image")[0]
    except Exception as error:
        time.sleep(0.01)
        reason = str(error)
        return "refused" if re.search("has no available versions|is not ready|unavailable", reason) else reason
    differ = np.abs(picture.astype(int) - expected[seed]).max()
    return "answered" if differ <= 1 else f"another picture, by {differ} levels"


def good(seed: int, prompt: bytes = b"panda") -> list[Any]:
    return inputs("grpc", prompt=prompt, seed=seed, prior_strength=1.0)


def draw(client: Any, count: int) -> None:
    for seed in range(count):
        client.infer("generate", good(seed))


def reload(client: Any) -> None:
    for name in reversed(MODELS):
        client.unload_model(name)
    for name in MODELS:
        client.load_model(name)


Row = tuple[float, int, dict[str, float]]
"""Seconds, turns, and the MB of each process."""


def watch(server: Server, turn: Callable[[int], object]) -> list[Row]:
    """Run `turn` for SECONDS; SAMPLES rows at even times, after a first one at the start."""
    started, turns = time.monotonic(), 0
    rows = [(0.0, 0, megabytes(server.pid))]
    for number in range(1, SAMPLES + 1):
        while time.monotonic() - started < SECONDS * number / SAMPLES:
            turn(turns)
            turns += 1
        rows.append((time.monotonic() - started, turns, megabytes(server.pid)))
    return rows


def megabytes(pid: int) -> dict[str, float]:
    """Resident memory of the server and of its models' processes, by name."""
    sizes = {"server": resident(pid)}
    for task in Path(f"/proc/{pid}/task").iterdir():
        for child in map(int, (task / "children").read_text().split()):
            words = Path(f"/proc/{child}/cmdline").read_bytes().decode().split("\0")
            model = next((Path(word).parts[-3] for word in words if word.endswith("model.py")), words[0])
            sizes[model] = resident(child)
    return sizes


def resident(pid: int) -> float:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6


def show(title: str, table: list[Row]) -> None:
    names = sorted({name for _, _, sizes in table for name in sizes})
    print(f"\n{title}\n  seconds  turns  " + "  ".join(f"{name:>9}" for name in names))
    for seconds, turns, sizes in table:
        print(f"  {seconds:7.0f} {turns:6d}  " + "  ".join(f"{sizes.get(name, 0):6.0f} MB" for name in names))


def check_flat(table: list[Row]) -> None:
    """No process holds more at the end than halfway, but for 5 % and 8 MB."""
    half, last = table[len(table) // 2][2], table[-1][2]
    grown = {name: (half[name], size) for name, size in last.items() if size > half[name] * 1.05 + 8}
    assert not grown, grown
