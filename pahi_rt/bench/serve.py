"""pahi-rt bench serve: what the service does when twice as much is asked as it can draw.

Method. `pahi-rt serve` runs as a process of its own, with the defaults that users get. Its capacity is measured first:
sixteen clients that each wait for their picture before they ask again, which fills the batches. Then requests come at
a multiple of it for a few minutes, at random times (Poisson), whether or not earlier ones were answered. AIPerf sends
both, on the same machine, so it takes time from the drawing; the capacity includes that. A request is drawn (200),
refused (429) or lost, which is everything else. Memory is what all processes of the service hold, read each second.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.error import URLError
from urllib.request import urlopen

from pahi_rt.bench import machine
from pahi_rt.bench.aiperf import OK, REFUSED, Request, offer, version
from pahi_rt.bench.reports.serve import Moment, ServeReport
from pahi_rt.bench.timing import spread
from pahi_rt.bundle import open_bundle
from pahi_rt.errors import PahiError
from pahi_rt.serve.limits import DEADLINE

_CLIENTS = 16
_MEASURING_SECONDS = 20
_STARTING_SECONDS = 120


@dataclass(frozen=True)
class LoadSettings:
    """What `pahi-rt bench serve` was told."""

    seconds: int
    overload: float
    """Requests, as a multiple of what can be drawn."""
    workers: int
    force: bool


def measure(source: str, settings: LoadSettings) -> ServeReport:
    """The whole report. Raises PahiError for a busy machine, a service that does not start, and no AIPerf."""
    busy, environment = machine.check_idle(settings.force), machine.describe()
    name = open_bundle(source).manifest.name
    with tempfile.TemporaryDirectory() as place, serving(source, settings.workers, Path(place) / "log") as service:
        folders = [Path(place) / part for part in ("capacity", "load")]
        for folder in folders:
            folder.mkdir()
        capacity = rate(offer(service.url, name, _MEASURING_SECONDS, folders[0], concurrency=_CLIENTS))
        offered = round(settings.overload * capacity, 2)
        started = service.rss_mib()
        with Memory(service) as memory:
            poisson: dict[str, float | str] = {"request-rate": offered, "request-rate-mode": "poisson"}
            requests = offer(service.url, name, settings.seconds, folders[1], **poisson)
    drawn = [request.ms for request in requests if request.status == OK]
    refused = sum(request.status == REFUSED for request in requests)
    if not drawn:
        raise PahiError("no request was drawn", fix="run `pahi-rt serve`, and ask it for a picture")
    return ServeReport(
        command=machine.command(),
        machine=environment,
        busy=busy,
        bundle=name,
        generator=version(),
        workers=settings.workers,
        deadline_s=DEADLINE,
        capacity_per_s=capacity,
        offered_per_s=offered,
        requests=len(requests),
        drawn=len(drawn),
        refused=refused,
        lost=len(requests) - len(drawn) - refused,
        drawn_ms=spread(drawn),
        started_rss_mib=started,
        moments=tuple(moments(requests, memory.samples)),
    )


def rate(requests: Sequence[Request]) -> float:
    """Requests a second that were drawn. Raises PahiError if none was."""
    ends = [request.ended for request in requests if request.status == OK]
    if not ends:
        raise PahiError("the service drew nothing", fix="run `pahi-rt serve`, and ask it for a picture")
    return round(len(ends) / (max(ends) - min(request.began for request in requests)), 2)


def moments(requests: Sequence[Request], samples: Sequence[tuple[float, float]]) -> Iterator[Moment]:
    """Each second from the first request to the last answer. `samples` are times and the memory then, in MiB."""
    first = min(request.began for request in requests)
    for second in range(int(max(request.ended for request in requests) - first) + 1):
        ended = [request for request in requests if int(request.ended - first) == second]
        counts = Counter(request.status for request in ended)
        earlier = [rss for at, rss in samples if at <= first + second + 1] or [samples[0][1]]
        yield Moment(
            drawn=counts[OK],
            refused=counts[REFUSED],
            lost=len(ended) - counts[OK] - counts[REFUSED],
            slowest_ms=max((round(one.ms, 1) for one in ended if one.status == OK), default=None),
            rss_mib=earlier[-1],
        )


@dataclass(frozen=True)
class Service:
    """A running `pahi-rt serve`."""

    url: str
    pid: int

    def rss_mib(self) -> float:
        """Resident memory of its processes, in MiB. A page that they share counts for each."""
        return round(sum(map(_rss_kib, _family(self.pid))) / 1024, 1)


@contextmanager
def serving(bundle: str, workers: int, log: Path) -> Iterator[Service]:
    """Run `pahi-rt serve` until the end of the block. Raises PahiError if it does not become ready."""
    script = "from pahi_rt.cli import main; main()"
    words = [sys.executable, "-c", script, "serve", bundle, "--port", "0", "--workers", str(workers)]
    with log.open("wb") as errors:
        process = subprocess.Popen(words, stderr=errors)
    try:
        yield Service(_address(process, log), process.pid)
    finally:
        process.terminate()
        process.wait()


def _address(process: subprocess.Popen[bytes], log: Path) -> str:
    ends = time.monotonic() + _STARTING_SECONDS
    while time.monotonic() < ends and process.poll() is None:
        found = re.search(r"http://[\d.]+:\d+", log.read_text(errors="replace"))
        if found and _is_ready(found[0]):
            return found[0]
        time.sleep(0.2)
    last = log.read_text(errors="replace").strip()[-600:]
    raise PahiError(f"the service did not start: {last}", fix="run `pahi-rt serve`, which tells the reason")


def _is_ready(url: str) -> bool:
    try:
        with urlopen(f"{url}/readyz", timeout=5):
            return True
    except (URLError, TimeoutError, ConnectionError):
        return False


class Memory:
    """Reads the memory of a service each second, in a thread."""

    def __init__(self, service: Service) -> None:
        self.samples = [(time.time(), service.rss_mib())]
        """Seconds since the epoch, MiB."""
        self._service, self._ended = service, threading.Event()
        self._thread = threading.Thread(target=self._read)

    def __enter__(self) -> Memory:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._ended.set()
        self._thread.join()

    def _read(self) -> None:
        while not self._ended.wait(1):
            self.samples.append((time.time(), self._service.rss_mib()))


def _family(pid: int) -> list[int]:
    """A process and all that it started."""
    try:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except OSError:
        return [pid]
    return [pid, *(one for child in children for one in _family(int(child)))]


def _rss_kib(pid: int) -> int:
    try:
        return int(re.findall(r"VmRSS:\s+(\d+)", Path(f"/proc/{pid}/status").read_text())[0])
    except (OSError, IndexError):  # it has just ended
        return 0
