"""`pahi-rt serve` as a process: curl, signals, several workers, and one that is killed."""

from __future__ import annotations

import http.client
import logging
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from typer.testing import CliRunner

from pahi_rt.cli import app
from pahi_rt.drawing import read_drawing
from pahi_rt.serve.logs import logging_to_stderr
from pahi_rt.serve.metrics import FOLDER
from pahi_rt.serve.settings import Settings
from tests.serve.conftest import ROOT, SECONDS, Client, Command, serving, until

KEY = "0123456789abcdef-one"


@pytest.fixture(scope="module")
def command(bundles: tuple[Path, Path]) -> Iterator[Command]:
    with serving(*bundles, "--threads", "1", "--access-log") as running:
        yield running


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
def test_curl(command: Command, contract_with_priors: Path, tmp_path: Path) -> None:
    file = tmp_path / "apple.png"
    body = '{"prompt": "a red apple", "seed": 7}'
    words = ["curl", "-sf", f"{command.client.url}/v1/pictures", "-d", body, "-o", str(file)]
    subprocess.run(words, check=True, timeout=SECONDS)
    drawing = read_drawing(file)
    assert (drawing.prompts, drawing.seed, drawing.bundle) == (("a red apple",), 7, "contract-priors")
    draw = "from pahi_rt.cli import main; main()"
    again = [sys.executable, "-c", draw, "generate", "--like", str(file), "--bundle", str(contract_with_priors)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run([*again, "-o", "-"], capture_output=True, timeout=SECONDS, env=environment, check=True)
    assert done.stdout == file.read_bytes()


def test_the_log_says_what_was_measured_and_no_prompts(command: Command) -> None:
    command.client.draw(prompt="my secret cat", headers={"X-Request-Id": "seen"})
    command.client("GET", "/a%0ab%1b[31m")
    until(lambda: any("x1b" in line for line in command.log))
    log = "".join(command.log)
    assert re.search(r"a picture in a batch of 1: \d.* Batches of 1 form", log)
    assert "POST /v1/pictures 200" in log and "seen" in log
    assert "secret" not in log and "\x1b" not in log


def test_sigterm_finishes_what_was_accepted(bundles: tuple[Path, Path]) -> None:
    with serving(*bundles, "--threads", "1") as running, ThreadPoolExecutor(8) as clients:
        asked = [clients.submit(running.client.draw, prompt="a cat", seed=seed, count=16) for seed in range(8)]
        until(lambda: running.client.metric("pahi_images_total") > 0)
        running.process.send_signal(signal.SIGTERM)
        statuses = []
        for reply in asked:
            try:
                statuses.append(reply.result().status)
            except OSError:  # it came after the end
                statuses.append(503)
        assert set(statuses) <= {200, 503} and 200 in statuses
        assert running.process.wait(SECONDS) == 0
    assert "Traceback" not in "".join(running.log)


@pytest.mark.slow
def test_ctrl_c(bundles: tuple[Path, Path]) -> None:
    with serving(*bundles) as running:
        running.process.send_signal(signal.SIGINT)
        assert running.process.wait(SECONDS) == 0


@pytest.mark.slow
def test_sighup_reads_the_keys_again(bundles: tuple[Path, Path], tmp_path: Path) -> None:
    keys = tmp_path / "keys"
    keys.write_text(KEY)
    with serving(*bundles, "--api-key-file", keys, "--workers", "2", wait=False) as running:
        running.client.wait_until_ready()
        assert authorized(running.client, KEY) == 200
        keys.write_text(KEY + "-new")
        running.process.send_signal(signal.SIGHUP)
        until(lambda: {authorized(running.client, KEY) for _ in range(20)} == {401})
        assert authorized(running.client, KEY + "-new") == 200


def authorized(client: Client, key: str) -> int:
    return client("GET", "/v1/models", headers={"Authorization": f"Bearer {key}"}).status


def workers(process: subprocess.Popen[str]) -> list[int]:
    """The processes that draw: those children that began with a pipe of multiprocessing's."""
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    return [int(child) for child in children if b"spawn_main" in Path(f"/proc/{child}/cmdline").read_bytes()]


@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="it needs Linux's /proc")
def test_a_worker_that_is_killed_under_load(contract_with_priors: Path) -> None:
    """Others go on, clients of it get an error, nobody gets another's picture, and another takes its place."""
    with serving(contract_with_priors, "--workers", "2", wait=False) as running:
        client = running.client
        until(lambda: "".join(running.log).count("ready: ") == 2, SECONDS * 2)
        expected = {seed: client.draw(prompt="a cat", seed=seed).body for seed in range(8)}
        assert len(set(expected.values())) == 8
        over, wrong, drawn, lost = threading.Event(), [], [], []

        def go_on(number: int) -> None:
            while not over.is_set():
                seed = number % 8
                try:
                    reply = client.draw(prompt="a cat", seed=seed)
                except (OSError, http.client.HTTPException) as error:
                    lost.append(error)
                    continue
                drawn.append(time.monotonic())
                if (reply.status, reply.body) != (200, expected[seed]):
                    wrong.append(reply)

        with ThreadPoolExecutor(8) as clients:
            for number in range(8):
                clients.submit(go_on, number)
            until(lambda: len(drawn) > 100)
            victim = workers(running.process)[0]
            os.kill(victim, signal.SIGKILL)
            killed = time.monotonic()
            until(lambda: sum(moment > killed + 0.1 for moment in drawn) > 100)
            until(lambda: "".join(running.log).count("ready: ") == 3, SECONDS * 2)
            over.set()
        assert not wrong
        assert len(lost) <= 8
        assert victim not in workers(running.process) and len(workers(running.process)) == 2
        assert client.metric("pahi_images_total") >= len(drawn)
        running.process.send_signal(signal.SIGTERM)
        assert running.process.wait(SECONDS) == 0


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="it needs Linux's /proc")
def test_workers_end_with_their_supervisor(contract_with_priors: Path) -> None:
    with serving(contract_with_priors, "--workers", "2") as running:
        children = workers(running.process)
        running.process.kill()
        running.process.wait(SECONDS)
        until(lambda: not any(Path(f"/proc/{child}").exists() for child in children))


def test_what_cannot_be_served(contract: Path, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        cases: list[list[str | Path]] = [
            [contract, "--port", port],
            [tmp_path],
            [contract, contract],
            [contract, "--runtime", "tpu"],
        ]
        for words in cases:
            result = CliRunner().invoke(app, ["serve", "--port", "0", *map(str, words)])
            assert result.exit_code == 1
            assert re.search(r"^error: .+\nfix: .+\n\Z", result.stderr, re.MULTILINE), result.stderr


def test_without_the_extra(contract: Path) -> None:
    script = """
import sys
sys.modules["starlette"] = None
from pahi_rt.cli import main
main()
"""
    words = [sys.executable, "-c", script, "serve", str(contract)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(words, capture_output=True, text=True, timeout=SECONDS, env=environment, check=False)
    assert done.returncode == 1
    assert done.stderr.endswith("fix: pip install 'pahi-rt[serve]'\n")


@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="it needs Linux's /proc")
def test_sighup_while_it_starts(contract: Path, tmp_path: Path) -> None:
    (tmp_path / "keys").write_text(KEY)
    words = ["serve", str(contract), "--port", "0", "--api-key-file", str(tmp_path / "keys")]
    command = [sys.executable, "-c", "from pahi_rt.cli import main; main()", *words]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment) as process:
        assert process.stderr is not None
        until(lambda: keeps(process.pid, signal.SIGHUP))
        process.send_signal(signal.SIGHUP)
        assert any("1 API keys read again" in line for line in process.stderr)
        process.terminate()
        process.stderr.read()
    assert process.returncode == 0


def keeps(pid: int, number: signal.Signals) -> bool:
    """Whether a process has blocked a signal."""
    blocked = re.findall(r"SigBlk:\s+(\w+)", Path(f"/proc/{pid}/status").read_text())
    return bool(int(blocked[0], 16) >> (number - 1) & 1)


@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_folder_of_metrics_that_is_not_there_is_made(contract: Path, tmp_path: Path, workers: str) -> None:
    """Several workers have a folder of their own."""
    folder = tmp_path / "some" / "metrics"
    with serving(contract, "--workers", workers, environment={FOLDER: str(folder)}) as running:
        assert running.client.draw(prompt="a cat").status == 200
        assert running.client.metric("pahi_images_total") == 1
        assert folder.is_dir() == (workers == "1")


@pytest.mark.parametrize("place", ["", "file", "file/metrics"])
def test_a_folder_of_metrics_that_cannot_be_written(contract: Path, tmp_path: Path, place: str) -> None:
    (tmp_path / "file").write_text("")
    words = [sys.executable, "-c", "from pahi_rt.cli import main; main()", "serve", str(contract), "--port", "0"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), FOLDER: place and str(tmp_path / place)}
    done = subprocess.run(words, capture_output=True, text=True, env=environment, timeout=SECONDS, check=False)
    assert (done.returncode, "Traceback" in done.stderr) == (1, False), done.stderr
    assert FOLDER in done.stderr.splitlines()[-1]


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="it needs Linux's /proc")
def test_sighup_while_workers_start(contract_with_priors: Path, tmp_path: Path) -> None:
    keys = tmp_path / "keys"
    keys.write_text(KEY)
    with serving(contract_with_priors, "--workers", "2", "--api-key-file", keys, wait=False) as running:
        until(lambda: len(workers(running.process)) == 2)
        for worker in workers(running.process):
            os.kill(worker, signal.SIGHUP)
        until(lambda: "".join(running.log).count("keys read again") == 2)
    assert "another takes its place" not in "".join(running.log)


def test_the_log_is_fit_for_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    with logging_to_stderr(Settings(())):
        try:
            raise ValueError("a\x1b[31m")
        except ValueError:
            logging.getLogger("pahi_rt.serve").exception("a\x1b[31m\nb\u202e")
    first, *others = capsys.readouterr().err.splitlines()
    assert first.endswith(r"a\x1b[31m\nb\u202e") and others[-1] == r"ValueError: a\x1b[31m"
