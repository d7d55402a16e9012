"""What is deployed in front of the service, run for real on this machine where it is installed."""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from tests.serve.conftest import NEEDED, Client, Running, bundles, until

__all__ = ["bundles"]

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
NAME = "pictures.example"

# `make compat` may lack the extra; these cannot even be imported there.
collect_ignore = [] if all(map(find_spec, NEEDED)) else [path.name for path in Path(__file__).parent.glob("test_*.py")]


def tool(name: str) -> str:
    """The path of a program, beside this Python or on PATH. Skips the test without it."""
    places = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", ""), "/usr/sbin"])
    found = shutil.which(name, path=places)
    if found is None:
        pytest.skip(f"{name} is not installed")
    return found


def check(*words: str | Path) -> str:
    """What a program printed. It must not complain."""
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


NGINX = """
daemon off;
{user}
pid {folder}/nginx.pid;
error_log stderr;
events {{}}
http {{
    access_log off;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    include {folder}/pahi-rt.conf;
}}
"""


def nginx_words(site: str, folder: Path) -> list[str]:
    """The command that runs nginx with this site."""
    (folder / "pahi-rt.conf").write_text(site)
    (folder / "nginx.conf").write_text(NGINX.format(folder=folder, user="user root;" if os.geteuid() == 0 else ""))
    return [tool("nginx"), "-p", str(folder), "-e", "stderr", "-c", str(folder / "nginx.conf")]


def nginx(front: int, back: int, folder: Path) -> list[str]:
    """deploy/nginx.conf on another port, without TLS."""
    site = (DEPLOY / "nginx.conf").read_text().replace("127.0.0.1:8000", f"127.0.0.1:{back}")
    site = re.sub(r"\n *(listen \[|ssl_).*", "", site).replace("listen 443 ssl", f"listen 127.0.0.1:{front}")
    return nginx_words(site, folder)


def caddy(front: int, back: int, folder: Path) -> list[str]:
    """deploy/Caddyfile on another port, without TLS."""
    site = (DEPLOY / "Caddyfile").read_text().replace("127.0.0.1:8000", f"127.0.0.1:{back}")
    site = re.sub(rf"^{NAME} ", f"http://:{front} ", site, flags=re.MULTILINE)
    file = folder / "Caddyfile"
    file.write_text("{\n\tadmin off\n\tdefault_bind 127.0.0.1\n\tpersist_config off\n}\n" + site)
    return [tool("caddy"), "run", "--adapter", "caddyfile", "--config", str(file)]


PROXIES: dict[str, Callable[[int, int, Path], Sequence[str]]] = {"nginx": nginx, "caddy": caddy}


@contextmanager
def fronted(proxy: str, service: Running, folder: Path) -> Iterator[Client]:
    """A client that reaches the service through a proxy."""
    front = free_port()
    words = PROXIES[proxy](front, service.client.port, folder)
    environment = {**os.environ, "XDG_DATA_HOME": str(folder), "XDG_CONFIG_HOME": str(folder)}
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(words, stdout=log, stderr=log, env=environment)
    try:
        client = Client(front)
        until(lambda: process.poll() is not None or _listens(front))
        assert process.poll() is None, (folder / "log").read_text()
        yield client
    finally:
        process.terminate()
        process.wait()


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


@pytest.fixture(params=sorted(PROXIES))
def proxy(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    tool(name)
    return name


@pytest.fixture
def gated(bundles: tuple[Path, Path]) -> Iterator[Running]:
    """The service as it runs behind a proxy, with room for three pictures; a test may close its gate."""
    with Running(*bundles, queue=3, allow_hosts=(NAME,)) as service:
        yield service


@pytest.fixture
def front(proxy: str, gated: Running, tmp_path: Path) -> Iterator[Client]:
    """The service through a proxy."""
    with fronted(proxy, gated, tmp_path) as client:
        yield client


def documents(text: str) -> list[Any]:
    """The resources of a YAML file."""
    yaml = pytest.importorskip("yaml")
    return [document for document in yaml.safe_load_all(text) if document]
