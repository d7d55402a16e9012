"""pahi-rt bench playground: from a key to its picture, on the page of `pahi-rt serve` and on one that draws by itself.

Method. Headless Chromium opens each page and types prompts, a key every 300 ms. A key's time runs from its keydown to
the frame after the one in which the page holds its picture. One picture is drawn for each key, of 128 x 128 pixels for
the embedded model, without the Gaussian beside it. The browser, the server and what draws share the machine.
"""

from __future__ import annotations

import functools
import http.server
import json
import shutil
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pahi_rt.bench import machine
from pahi_rt.bench.reports.playground import PlaygroundReport, Typing
from pahi_rt.bench.serve import serving
from pahi_rt.bench.timing import spread
from pahi_rt.bundle import open_bundle
from pahi_rt.errors import PahiError
from pahi_rt.export.web.packages import Package, fetch
from pahi_rt.export.web.site import write_site

PLAYWRIGHT = Package(
    "playwright-core",
    "1.65.1",
    "6f5a60be62a4fddfbe7d10c448d8fbd54547da3358f2f8a04211440471ee863e",
    "Apache-2.0",
)
TYPED = ("a red heart", "a grinning cat", "two rockets")
_SCRIPT = Path(__file__).with_suffix(".mjs")
_BROWSERS = ("chromium", "chromium-browser", "google-chrome")
_DELAY_MS = 300
_PATIENCE = 120
"""Seconds for the first picture."""
_PATIENCE_PER_KEY = 2
"""Seconds. Beside the first picture, a session takes a fifth of this."""


@dataclass(frozen=True)
class PlaygroundSettings:
    """What `pahi-rt bench playground` was told."""

    rounds: int
    """How often the prompts are typed."""
    packages: Path | None
    """A folder with npm's tarballs."""
    force: bool


def measure(bundle: str, settings: PlaygroundSettings) -> PlaygroundReport:
    """The whole report. Raises PahiError for a busy machine, and where there is no Node.js or Chromium."""
    tools = find_tools()
    busy, environment = machine.check_idle(settings.force), machine.describe()
    texts = TYPED * settings.rounds
    with tempfile.TemporaryDirectory() as place:
        fetch(PLAYWRIGHT, settings.packages).unpack(Path(place, "node_modules", PLAYWRIGHT.name))
        with serving(bundle, 1, Path(place, "log")) as service:
            drawn_there = tools.type(f"{service.url}/", texts, place)
        site = write_site(bundle, Path(place, "site"), packages=settings.packages)
        with files_served(site.path) as url:
            drawn_here = tools.type(url, texts, place)
    return PlaygroundReport(
        command=machine.command(),
        machine=environment,
        busy=busy,
        bundle=open_bundle(bundle).manifest.name,
        browser=f"Chromium {drawn_there['browser']}",
        keys=sum(map(len, texts)),
        delay_ms=_DELAY_MS,
        pages=(_typing(drawn_there), _typing(drawn_here)),
    )


def _typing(told: dict[str, Any]) -> Typing:
    if not told["waits_ms"]:
        raise PahiError("no key brought a picture", fix="wait until the machine has less to do")
    return Typing(engine=told["engine"].strip(), shown_ms=spread(told["waits_ms"]))


@dataclass(frozen=True)
class Tools:
    """The programs that type."""

    node: str
    chromium: str

    def type(self, url: str, texts: tuple[str, ...], folder: str) -> dict[str, Any]:
        """What playground.mjs answers; `folder` holds node_modules. Raises PahiError."""
        asked = {"url": url, "program": self.chromium, "texts": texts, "delay_ms": _DELAY_MS, "patience_s": _PATIENCE}
        words, fix = [self.node, str(_SCRIPT), folder], f"see whether {self.chromium} --headless works here"
        limit = _PATIENCE + _PATIENCE_PER_KEY * sum(map(len, texts))
        try:
            done = subprocess.run(
                words, input=json.dumps(asked), capture_output=True, text=True, timeout=limit, check=False
            )
        except subprocess.TimeoutExpired as error:
            raise PahiError(f"Chromium was not done after {limit} s", fix=fix) from error
        if done.returncode:
            raise PahiError(f"nothing could be typed in Chromium: {done.stderr.strip()[-400:]}", fix=fix)
        told: dict[str, Any] = json.loads(done.stdout)
        return told


def find_tools() -> Tools:
    """Raises PahiError for what is missing."""
    node, chromium = shutil.which("node"), next(filter(None, map(shutil.which, _BROWSERS)), None)
    if node is None:
        raise PahiError("there is no Node.js to type with", fix="install Node.js 20 or newer")
    if chromium is None:
        raise PahiError("there is no Chromium to type in", fix="apt install chromium")
    return Tools(node, chromium)


@contextmanager
def files_served(folder: Path) -> Iterator[str]:
    """The address of a plain server of files, until the end of the block."""

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *arguments: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=str(folder)))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
