"""The service on a port of its own, in a thread of this process or as the command `pahi-rt serve`."""

from __future__ import annotations

import asyncio
import hashlib
import http.client
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import pytest

from pahi_rt import FakeRuntime, Pipeline

ROOT = Path(__file__).parents[2]
NEEDED = ("starlette", "uvicorn", "websockets", "prometheus_client", "msgspec")
SECONDS = 30.0
"""How long a test waits for what should come at once, on a busy machine."""

# `make compat` may lack the extra; these cannot even be imported there.
collect_ignore = [] if all(map(find_spec, NEEDED)) else [path.name for path in Path(__file__).parent.glob("test_*.py")]


@dataclass(frozen=True)
class Reply:
    """What came back."""

    status: int
    headers: http.client.HTTPMessage
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class Client:
    """Calls a service; each call has a connection of its own."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.url = f"http://127.0.0.1:{port}"

    def __call__(
        self,
        method: str,
        path: str,
        body: Any = None,
        headers: Mapping[str, str] | None = None,
        timeout: float = SECONDS,
    ) -> Reply:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout)
        content = body if isinstance(body, bytes | None) else json.dumps(body).encode()
        try:
            connection.request(method, path, content, dict(headers or {}))
            response = connection.getresponse()
            return Reply(response.status, response.headers, response.read())
        finally:
            connection.close()

    def post(self, path: str, headers: Mapping[str, str] | None = None, **body: Any) -> Reply:
        return self("POST", path, body, headers)

    def draw(self, headers: Mapping[str, str] | None = None, **body: Any) -> Reply:
        return self.post("/v1/pictures", headers, **body)

    def metric(self, name: str) -> float:
        """The sum of a metric over its labels."""
        lines = self("GET", "/metrics").body.decode().splitlines()
        return sum(float(line.rsplit(" ", 1)[1]) for line in lines if re.match(rf"{name}(\{{|\s)", line))

    def wait_until_ready(self) -> None:
        until(lambda: self("GET", "/readyz").status == 200)


Later = Callable[..., "Future[Reply]"]


def until(condition: Callable[[], bool], seconds: float = SECONDS) -> None:
    """Wait until a condition holds."""
    ends = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < ends, "it never came true"
        time.sleep(0.01)


class Gate(FakeRuntime):
    """A runtime that draws only while its gate is open, and fails where it is told to."""

    def __init__(self) -> None:
        super().__init__(32, 32)
        self.open = threading.Event()
        self.open.set()
        self.batches: list[int] = []
        self.seconds = 0.0
        self.error: Callable[[np.ndarray], Exception | None] = lambda ids: None

    def run(self, input_ids: np.ndarray, noise: np.ndarray, prior_strength: np.ndarray) -> np.ndarray:
        self.batches.append(len(noise))
        assert self.open.wait(SECONDS)
        time.sleep(self.seconds * len(noise))
        if error := self.error(input_ids):
            raise error
        return super().run(input_ids, noise, prior_strength)


class Running:
    """The service in a thread, with a Gate in place of the runtime unless `real`."""

    def __init__(self, *bundles: Path, real: bool = False, **settings: Any) -> None:
        from pahi_rt.serve.server import Server, listen, open_models
        from pahi_rt.serve.service import Service
        from pahi_rt.serve.settings import Settings

        self.gate = Gate()
        self.settings = Settings(tuple(map(str, bundles)), **{"port": 0, "grace": 20.0, "threads": 1, **settings})
        models = open_models(self.settings)
        load = {} if real else {"load": lambda chosen: Pipeline(chosen.bundle, self.gate, prior=chosen.prior)}
        self.service = Service.of(models, self.settings, **load)
        self.server = Server(self.service)
        self._listener = listen(self.settings)
        self.client = Client(self._listener.getsockname()[1])
        self._thread = threading.Thread(target=lambda: asyncio.run(self.server.serve([self._listener])))

    def __enter__(self) -> Running:
        self._thread.start()
        until(lambda: self.service.engine.is_ready or not self._thread.is_alive())
        self.gate.batches.clear()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.gate.open.set()
        self.end()
        self._thread.join(SECONDS)
        assert not self._thread.is_alive()
        self._listener.close()

    def end(self) -> None:
        """What SIGTERM does."""
        self.server.handle_exit(signal.SIGTERM, None)

    @property
    def waiting(self) -> int:
        return self.service.engine.queue.waiting

    @property
    def unfinished(self) -> int:
        return self.service.engine.queue.unfinished

    @property
    def is_drawing(self) -> bool:
        """Whether a batch is being drawn. Pictures of a request that is still being read count as unfinished too."""
        return self.service.engine.busy_seconds > 0


@dataclass
class Command:
    """`pahi-rt serve` as a process."""

    process: subprocess.Popen[str]
    client: Client
    log: list[str]


@contextmanager
def serving(*words: str | Path, wait: bool = True, environment: Mapping[str, str] | None = None) -> Iterator[Command]:
    """Run `pahi-rt serve WORDS --port 0` until the end of the block."""
    script = "from pahi_rt.cli import main; main()"
    arguments = [sys.executable, "-c", script, "serve", *map(str, words), "--port", "0"]
    variables = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", **(environment or {})}
    process = subprocess.Popen(arguments, stderr=subprocess.PIPE, text=True, env=variables)
    log: list[str] = []
    assert process.stderr is not None
    thread = threading.Thread(target=log.extend, args=(process.stderr,))
    thread.start()
    try:
        until(lambda: any("serving" in line for line in log) or process.poll() is not None)
        found = re.search(r"http://[^:]+:(\d+)/", "".join(log))
        assert found, "".join(log)
        command = Command(process, Client(int(found[1])), log)
        if wait:
            command.client.wait_until_ready()
        yield command
    finally:
        if process.poll() is None:
            process.terminate()
        try:
            process.wait(SECONDS)
        finally:
            process.kill()
            thread.join(SECONDS)
            process.stderr.close()


@pytest.fixture
def later() -> Iterator[Later]:
    """Calls a function in a thread."""
    with ThreadPoolExecutor(32) as threads:
        yield threads.submit


@pytest.fixture(scope="session")
def bundles(contract: Path, contract_with_priors: Path) -> tuple[Path, Path]:
    """The default model, which has priors, and another."""
    return contract_with_priors, contract


@pytest.fixture(scope="module")
def running(bundles: tuple[Path, Path]) -> Iterator[Running]:
    """The service with its real runtime, for tests that only ask."""
    with Running(*bundles, real=True) as service:
        yield service


@pytest.fixture(scope="module")
def client(running: Running) -> Client:
    return running.client


@pytest.fixture
def gated(bundles: tuple[Path, Path]) -> Iterator[Running]:
    """The service with a Gate, for tests of what waits."""
    with Running(*bundles) as service:
        yield service


@pytest.fixture(scope="session")
def even(contract_with_priors: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The default model, changed so that it draws the same in batches: ONNX Runtime's mean depends on their size."""
    onnx = pytest.importorskip("onnx", reason="the graphs are edited with onnx")
    folder = Path(shutil.copytree(contract_with_priors, tmp_path_factory.mktemp("even") / "even"))
    manifest = json.loads((folder / "pahi.json").read_text())
    for graph in manifest["graphs"]:
        path = folder / graph["file"]
        model = onnx.load(path, load_external_data=False)
        (mean,) = [node for node in model.graph.node if node.op_type == "ReduceMean"]
        sum_of_two = [
            *(onnx.helper.make_node("Constant", [], [f"at_{at}"], value_int=at) for at in (1, 2)),
            *(onnx.helper.make_node("Gather", [mean.input[0], f"at_{at}"], [f"token_{at}"], axis=1) for at in (1, 2)),
            onnx.helper.make_node("Add", ["token_1", "token_2"], list(mean.output)),
        ]
        place = list(model.graph.node).index(mean)
        nodes = [*model.graph.node[:place], *sum_of_two, *model.graph.node[place + 1 :]]
        del model.graph.node[:]
        model.graph.node.extend(nodes)
        content = model.SerializeToString()
        path.write_bytes(content)
        manifest["files"][graph["file"]] = {"sha256": hashlib.sha256(content).hexdigest(), "size": len(content)}
    (folder / "pahi.json").write_text(json.dumps({**manifest, "name": "even"}))
    return folder
