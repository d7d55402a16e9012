"""The real tritonserver of the nvidia-pytriton wheel, on loopback and free ports.

It has an environment of its own, .venv/triton, for its Python backend was built for numpy 1.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[3]
ENVIRONMENT = ROOT / ".venv" / "triton"
PYTHON = f"python{sys.version_info.major}.{sys.version_info.minor}"


@dataclass(frozen=True)
class Server:
    http: str
    """host:port"""
    grpc: str
    pid: int
    log: Path


@contextmanager
def serving(repository: Path, scratch: Path, *options: str) -> Iterator[Server]:
    """A server of `repository`, ready; ended afterwards. RuntimeError with its log if it does not start."""
    site = ENVIRONMENT / "lib" / PYTHON / "site-packages"
    home = site / "pytriton" / "tritonserver"
    http, grpc = (f"127.0.0.1:{_free_port()}" for _ in range(2))
    words = [
        *(str(home / "bin" / "tritonserver"), f"--model-repository={repository}"),
        f"--backend-directory={_backends(home, scratch)}",
        *("--disable-auto-complete-config", "--allow-metrics=false", "--exit-timeout-secs=5"),
        *(f"--http-address=127.0.0.1 --http-port={http.rpartition(':')[2]}".split()),
        *(f"--grpc-address=127.0.0.1 --grpc-port={grpc.rpartition(':')[2]}".split()),
        *options,
    ]
    # Models run in the environment whose python comes first.
    search = os.pathsep.join((str(ENVIRONMENT / "bin"), os.environ["PATH"]))
    environment = os.environ | {"LD_LIBRARY_PATH": str(site / "nvidia_pytriton.libs"), "PATH": search}
    log = scratch / "server.log"
    with log.open("wb") as output:
        process = subprocess.Popen(words, stdout=output, stderr=output, env=environment)
    try:
        _wait(process, http, log)
        yield Server(http, grpc, process.pid, log)
    finally:
        process.terminate()
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _backends(home: Path, scratch: Path) -> Path:
    """The wheel's backends, with the stub of this Python where the server looks for it."""
    folder = scratch / "backends"
    shutil.copytree(home / "backends", folder)
    stub = home / "python_backend_stubs" / PYTHON.removeprefix("python") / "triton_python_backend_stub"
    shutil.copy(stub, folder / "python")
    return folder


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _wait(process: subprocess.Popen[bytes], http: str, log: Path, seconds: float = 120) -> None:
    until = time.monotonic() + seconds
    while time.monotonic() < until and process.poll() is None:
        try:
            with urllib.request.urlopen(f"http://{http}/v2/health/ready", timeout=5):
                return
        except OSError:
            time.sleep(0.2)
    raise RuntimeError(f"tritonserver is not ready:\n{log.read_text(errors='replace')[-4000:]}")
