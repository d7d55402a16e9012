"""The harness on the contract bundle: what it reports is what it measured."""

import json
import sys
from pathlib import Path

import pytest

from pahi_rt.bench import __main__ as bench
from pahi_rt.bench import machine


def test_report_has_every_sample_and_its_units(contract: Path) -> None:
    report = bench.measure(str(contract), pictures=4, starts=1)
    assert report["one_step_ms"]["n"] == report["two_steps_ms"]["n"] == 4  # type: ignore[index]
    assert report["cold_start_ms"]["median"] > 10  # type: ignore[index]
    assert report["machine"]["cores"] >= 1  # type: ignore[index]
    assert report["prior"] == "gaussian"


def test_last_line_is_the_report(
    contract: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "latency.json"
    words = ["--bundle", str(contract), "--pictures", "2", "--starts", "1", "--force", "--output", str(output)]
    monkeypatch.setattr(sys, "argv", ["bench", *words])
    assert bench.main() == 0
    printed = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert printed == json.loads(output.read_text())


def test_a_busy_machine_is_refused(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(machine, "is_busy", lambda: True)
    monkeypatch.setattr(sys, "argv", ["bench"])
    assert bench.main() == 1
    assert "error: the machine is busy" in capsys.readouterr().err
