"""The load on a real service, by a generator that stands in for AIPerf; and what AIPerf's records say."""

from __future__ import annotations

import json
import time
import urllib.request
from pathlib import Path
from typing import Any
from urllib.error import HTTPError

import pytest
from PIL import Image
from typer.testing import CliRunner

from pahi_rt.bench import aiperf, machine, plots, serve
from pahi_rt.bench.aiperf import Request, read_record
from pahi_rt.bench.reports.serve import ServeReport
from pahi_rt.bench.serve import LoadSettings
from pahi_rt.cli import app
from pahi_rt.errors import PahiError

REPORT = Path(serve.__file__).parent / "results" / "serve-load.json"
SETTINGS = LoadSettings(seconds=1, overload=2, workers=1, force=True)


def record(error: dict[str, Any] | None = None, cancelled: bool = False) -> dict[str, Any]:
    """As AIPerf 0.13 writes it."""
    times = {"request_start_ns": 2_000_000_000, "request_end_ns": 2_250_000_000, "was_cancelled": cancelled}
    return {"metadata": times, "metrics": {}} | ({"error": error} if error else {})


def test_a_record_is_read() -> None:
    assert read_record(record()) == Request(2.0, 2.25, 200)
    assert read_record(record()).ms == 250
    assert read_record(record({"code": 429, "type": "Too Many Requests", "message": ""})).status == 429
    assert read_record(record({"code": None, "type": "ClientOSError", "message": ""})).status == 0
    assert read_record(record(cancelled=True)).status == 0


def test_the_rate_is_of_what_was_drawn() -> None:
    assert serve.rate([Request(10.0, 11.0, 200), Request(10.5, 12.0, 200), Request(11.0, 11.0, 429)]) == 1.0
    with pytest.raises(PahiError):
        serve.rate([Request(10.0, 10.0, 429)])


def test_each_second_has_its_answers_and_its_memory() -> None:
    requests = [Request(10.0, 10.5, 200), Request(10.1, 10.1, 429), Request(10.2, 12.0, 200), Request(10.3, 12.4, 0)]
    first, second, third = serve.moments(requests, [(9.9, 100.0), (11.5, 101.0), (12.5, 102.0)])
    assert (first.drawn, first.refused, first.lost, first.slowest_ms, first.rss_mib) == (1, 1, 0, 500.0, 100.0)
    assert (second.drawn, second.slowest_ms, second.rss_mib) == (0, None, 101.0)
    assert (third.drawn, third.lost, third.slowest_ms, third.rss_mib) == (1, 1, 1800.0, 102.0)


def ask(url: str, model: str, seconds: float, folder: Path, **load: Any) -> list[Request]:
    """Sends a few requests, in the place of AIPerf."""
    assert not list(folder.iterdir())
    requests = []
    for number in range(4):
        content = json.dumps({"model": model, "prompt": "a cat", "n": 1 if number else 99}).encode()
        began = time.time()
        try:
            with urllib.request.urlopen(f"{url}/v1/images/generations", content) as response:
                status = response.status
        except HTTPError as error:
            status = error.code
        requests.append(Request(began, time.time(), status))
    return requests


def test_a_report_counts_what_came_back(contract: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serve, "offer", ask)
    report = serve.measure(str(contract), SETTINGS)
    assert (report.requests, report.drawn, report.refused, report.lost) == (4, 3, 0, 1)
    assert report.offered_per_s == pytest.approx(2 * report.capacity_per_s, abs=0.01)
    assert report.started_rss_mib > 20 and report.drawn_ms.n == 3
    assert sum(moment.drawn for moment in report.moments) == 3
    assert ServeReport.from_dict(json.loads(json.dumps(report.to_dict()))) == report


def test_a_service_that_does_not_start(tmp_path: Path) -> None:
    with pytest.raises(PahiError, match="no-such-bundle"), serve.serving("no-such-bundle", 1, tmp_path / "log"):
        pass


def test_aiperf_that_fails_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "aiperf"
    program.write_text("#!/bin/sh\necho it broke; exit 3\n")
    program.chmod(0o755)
    monkeypatch.setattr(aiperf, "find_python", lambda pins: tmp_path / "python")
    (tmp_path / "in").mkdir()
    with pytest.raises(PahiError, match="it broke"):
        aiperf.offer("http://127.0.0.1:1", "emoji", 1, tmp_path / "in")


def test_a_busy_machine_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "is_busy", lambda: True)
    result = CliRunner().invoke(app, ["bench", "serve"])
    assert result.exit_code == 1 and "error: the machine is busy" in result.stderr


def test_the_committed_report(tmp_path: Path) -> None:
    """At twice the capacity, or more, for three minutes nothing that was accepted is lost, and memory is flat."""
    data = json.loads(REPORT.read_text())
    report = ServeReport.from_dict(data)
    assert data == report.to_dict()
    assert report.offered_per_s >= 2 * max(report.capacity_per_s, report.drawn_per_s) and len(report.moments) >= 180
    assert report.lost == 0 and report.drawn + report.refused == report.requests
    assert report.drawn_ms.p99 is not None and report.drawn_ms.p99 < 1000 * report.deadline_s
    assert report.peak_rss_mib < 1.1 * report.started_rss_mib
    plots.draw(data, tmp_path / "plot.png", "digest")
    with Image.open(tmp_path / "plot.png") as image:
        assert image.info[plots.REPORT] == "digest"
