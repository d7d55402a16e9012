"""Peers as processes: here pahi-rt against itself, and programs that fail."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from pahi_rt.bench.peers import comparison as peers
from pahi_rt.bench.peers import process
from pahi_rt.bench.peers.process import Peer, Process
from pahi_rt.bench.reports.report import Limits
from pahi_rt.cli import app
from pahi_rt.errors import PahiError

OURS = "pahi_rt_pipeline.py"


@pytest.fixture
def ours(contract: Path) -> Peer:
    return Peer("ours", OURS, (str(contract), "onnxruntime", "fp32"))


@pytest.fixture
def broken(contract: Path) -> Peer:
    return Peer("broken", OURS, (str(contract), "no such runtime", "fp32"))


def test_a_peer_says_what_it_is_and_draws(ours: Peer, tmp_path: Path) -> None:
    running = Process(ours, tmp_path / "log")
    assert running.described["version"].startswith("onnxruntime 1.")
    for number in (-1, 0, 1):
        running.draw(number)
    running.end()


def test_a_peer_that_fails_says_why(broken: Peer, tmp_path: Path) -> None:
    with pytest.raises(PahiError, match="broken failed: .*there is no runtime 'no such runtime'"):
        Process(broken, tmp_path / "log")


def test_the_report(contract: Path, ours: Peer, broken: Peer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(peers, "contenders", lambda model, bundle: [ours, ours, broken])
    monkeypatch.setattr(peers, "measure_limits", lambda threads: Limits("", 100.0, 400.0, 10.0, threads))
    output = tmp_path / "peers.json"
    words = ["bench", "peers", str(contract), str(contract), "--pictures", "2", "--force", "-o", str(output)]
    result = CliRunner().invoke(app, words)
    assert result.exit_code == 0, result.stderr
    report: dict[str, Any] = json.loads(output.read_text())
    same, failed = report["rows"]
    assert (report["reference"]["name"], same["name"], same["ms"]["n"]) == ("ours", "ours", 2)
    assert 0.1 < same["time_over_reference"]["median"] < 10
    assert set(failed) == {"name", "reason"}
    assert any(line.startswith("broken ") for line in result.stdout.splitlines())


def test_contenders_are_every_precision_of_the_bundle_and_diffusers(contract: Path) -> None:
    names = [peer.name for peer in peers.contenders(contract, str(contract))]
    assert names[:2] == ["diffusers eager", "diffusers compile"]
    assert names[2:7] == [
        "optimum-onnx fp32",
        "OpenVINO GenAI fp32",
        "OpenVINO GenAI bf16",
        "stable-diffusion.cpp f32",
        "stable-diffusion.cpp q8_0",
    ]
    assert names[7:] == [f"pahi-rt fp32 {name}" for name in ("onnxruntime", "openvino", "openvino-bf16")]


def test_an_environment_is_made_once_for_the_same_pins(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "x.txt").write_text("one==1\n")
    made: list[str] = []
    monkeypatch.setattr(process, "HERE", tmp_path)
    monkeypatch.setattr(process, "cache_folder", lambda *names: tmp_path.joinpath("cache", *names))
    monkeypatch.setattr("venv.create", lambda folder, **_: folder.mkdir(parents=True, exist_ok=True))
    monkeypatch.setattr(process, "install", lambda folder, pins: made.append(pins.read_text()))
    python = tmp_path / "cache" / "peers" / "x" / "bin" / "python"
    for _ in range(2):
        assert process.find_python("x.txt") == python
    (tmp_path / "x.txt").write_text("one==2\n")
    process.find_python("x.txt")
    assert made == ["one==1\n", "one==2\n"]
    assert process.find_python(None) == Path(sys.executable)


def test_a_peer_that_dies_between_two_pictures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process, "HERE", tmp_path)
    program = "print('loading ...', flush=True)\nprint('{}', flush=True)\ninput()\nexit('no memory')"
    (tmp_path / "peer.py").write_text(program)
    mortal = Process(Peer("mortal", "peer.py", ()), tmp_path / "log")
    for _ in range(2):
        with pytest.raises(PahiError, match="mortal failed: no memory"):
            mortal.draw(0)
    assert mortal.has_ended
    mortal.end()


def test_every_program_and_its_pins_are_there(contract: Path) -> None:
    for peer in peers.contenders(contract, str(contract)):
        assert (process.HERE / peer.program).is_file()
        assert peer.pins is None or "==" in (process.HERE / peer.pins).read_text()


def test_a_peer_ends_by_itself_when_it_is_asked_to(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process, "HERE", tmp_path)
    lines = [
        "import pathlib, sys",
        "print('{}', flush=True)",
        "list(sys.stdin)",
        "pathlib.Path(sys.argv[1]).touch()",
    ]
    (tmp_path / "peer.py").write_text("\n".join(lines))
    Process(Peer("tidy", "peer.py", (str(tmp_path / "cleaned"),)), tmp_path / "log").end()
    assert (tmp_path / "cleaned").exists()


def test_a_model_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(PahiError) as caught:
        peers.measure(tmp_path / "x", "emoji", None, 1, True)
    assert caught.value.fix == "name the folder that the bundle was exported from"
