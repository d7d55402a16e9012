"""The harness on the contract bundle: what it reports is what it measured."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from pahi_rt.bench import latency, machine
from pahi_rt.cli import app


def run(*words: object) -> Result:
    return CliRunner().invoke(app, ["bench", *map(str, words)])


def test_report_has_every_sample_and_its_units(contract: Path) -> None:
    report = latency.measure(str(contract), pictures=4, starts=1, force=True).to_dict()
    assert report["one_step_ms"]["n"] == report["two_steps_ms"]["n"] == 4
    assert report["cold_start_ms"]["median"] > 10
    assert report["machine"]["cores"] >= 1
    assert report["prior"] == "gaussian"


def test_what_is_printed_is_the_report(contract: Path, tmp_path: Path) -> None:
    output = tmp_path / "latency.json"
    words = ["--bundle", str(contract), "--pictures", "2", "--starts", "1", "--force", "--json", "-o", str(output)]
    result = run("latency", *words)
    assert result.exit_code == 0, result.stderr
    printed = json.loads(result.stdout)
    assert printed == json.loads(output.read_text())


def test_a_busy_machine_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "is_busy", lambda: True)
    result = run("latency")
    assert result.exit_code == 1
    assert "error: the machine is busy" in result.stderr
