"""From a key to its picture: a real session in Chromium, and what is made of its answer."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from pahi_rt.bench import machine, markdown, playground, text
from pahi_rt.bench.playground import PLAYWRIGHT, TYPED, PlaygroundSettings, Tools, find_tools, measure
from pahi_rt.bench.reports.playground import PlaygroundReport
from pahi_rt.bench.timing import spread
from pahi_rt.cli import app
from pahi_rt.errors import PahiError
from pahi_rt.export.web.packages import PACKAGES
from tests.playground.conftest import NPM


@pytest.mark.browser
def test_keys_in_chromium(contract: Path) -> None:
    missing = [one.tarball for one in (*PACKAGES, PLAYWRIGHT) if not (NPM / one.tarball).is_file()]
    if missing or not shutil.which("chromium"):
        pytest.skip(f"there is no Chromium, or no {missing}: run make .venv/.npm")
    pytest.importorskip("starlette")
    report = measure(str(contract), PlaygroundSettings(rounds=1, packages=NPM, force=True))
    assert (report.bundle, report.keys) == ("contract", sum(map(len, TYPED)))
    assert [page.engine.partition(",")[0] for page in report.pages] == ["pahi-rt serve", "WebAssembly"]
    for page in report.pages:
        assert 1 <= page.shown_ms.n <= report.keys and page.shown_ms.median > 1
    assert PlaygroundReport.from_dict(json.loads(json.dumps(report.to_dict()))) == report


@pytest.fixture
def measured(contract: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> PlaygroundReport:
    """A report of a session that took place nowhere."""
    told = {"browser": "140.0", "engine": " pahi-rt serve ", "waits_ms": [float(ms) for ms in range(90, 111)]}

    class Nothing:
        def unpack(self, folder: Path) -> None:
            pass

    class Site:
        path = tmp_path

    monkeypatch.setattr(playground, "find_tools", lambda: Tools("node", "chromium"))
    monkeypatch.setattr(playground, "fetch", lambda package, folder: Nothing())
    monkeypatch.setattr(playground, "write_site", lambda *arguments, **options: Site())
    monkeypatch.setattr(Tools, "type", lambda *arguments: told)
    return measure(str(contract), PlaygroundSettings(rounds=2, packages=None, force=True))


def test_the_report(measured: PlaygroundReport) -> None:
    assert measured.keys == 2 * sum(map(len, TYPED)) and measured.browser == "Chromium 140.0"
    assert measured.pages[0].shown_ms == spread([float(ms) for ms in range(90, 111)])
    assert "100.0" in text.playground(measured)[2]
    table = markdown.TABLES["playground"](measured.to_dict())
    assert "| pahi-rt serve | 100 ms | 92 ms | 108 ms | 21 |" in table
    assert "Chromium 140.0" in table and measured.machine.title in table


@pytest.mark.parametrize("missing", ["node", "chromium"])
def test_what_is_missing_is_told(missing: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: None if name.startswith((missing, "google")) else f"/bin/{name}")
    with pytest.raises(PahiError) as caught:
        find_tools()
    assert "install" in caught.value.fix


def test_a_browser_that_does_not_start_is_told_of(tmp_path: Path) -> None:
    program = tmp_path / "node"
    program.write_text("#!/bin/sh\necho no display >&2\nexit 3\n")
    program.chmod(0o755)
    with pytest.raises(PahiError) as caught:
        Tools(str(program), "/bin/chromium").type("http://127.0.0.1:1/", TYPED, str(tmp_path))
    assert "no display" in caught.value.what and "/bin/chromium" in caught.value.fix


def test_a_browser_that_hangs_is_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "node"
    program.write_text("#!/bin/sh\nexec sleep 60\n")
    program.chmod(0o755)
    monkeypatch.setattr(playground, "_PATIENCE", 0)
    monkeypatch.setattr(playground, "_PATIENCE_PER_KEY", 0.01)
    with pytest.raises(PahiError, match="was not done after"):
        Tools(str(program), "/bin/chromium").type("http://127.0.0.1:1/", TYPED, str(tmp_path))


def test_no_key_that_brought_a_picture_is_an_error() -> None:
    told: dict[str, Any] = {"browser": "140.0", "engine": "x", "waits_ms": []}
    with pytest.raises(PahiError):
        playground._typing(told)


def test_a_busy_machine_is_refused(contract: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "is_busy", lambda: True)
    monkeypatch.setattr(playground, "find_tools", lambda: Tools("node", "chromium"))
    result = CliRunner().invoke(app, ["bench", "playground", "--bundle", str(contract)])
    assert result.exit_code == 1 and "--force" in result.stderr


def test_the_committed_report() -> None:
    """With the service, half of the keys have their picture within 150 ms on two cores."""
    data = json.loads((Path(playground.__file__).parent / "results" / "playground.json").read_text())
    report = PlaygroundReport.from_dict(data)
    assert data == report.to_dict() and not report.busy
    served = report.pages[0]
    assert served.shown_ms.median < 150 and served.shown_ms.n >= 0.9 * report.keys
