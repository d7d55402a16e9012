from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.cli.conftest import Run

pytest.importorskip("tensorrt_rtx")


def test_plans_go_into_the_bundle(run: Run, folder: Path) -> None:
    result = run("build", str(folder), "--engine", "tensorrt-rtx", "--compute-capability", "86,89", "--batch", "1/1/2")
    assert (result.exit_code, result.stdout) == (0, f"{folder}\n")
    stages = result.stderr.splitlines()
    assert stages[0].startswith("build engines/one-step-tensorrt-rtx-sm86-sm89.plan  ")
    assert stages[2] == f"next: pahi-rt inspect {folder} --verify"
    text = run("inspect", str(folder), "--verify").stdout
    assert "compute capability 86, 89  batch 1/1/2" in text


def test_json_and_defaults(run: Run, folder: Path) -> None:
    result = run("build", str(folder), "--engine", "tensorrt-rtx", "--json")
    engines = json.loads(result.stdout)["engines"]
    assert [(engine["compute_capabilities"], engine["batch"]) for engine in engines] == [(["86"], [1, 2, 4])] * 2


@pytest.mark.parametrize(
    ("words", "code", "what"),
    [
        (["--engine", "tensorrt-rtx", "--batch", "1/2"], 2, "--batch takes three numbers"),
        (["--engine", "tensorrt-rtx", "--batch", "a/b/c"], 2, "--batch takes three numbers"),
        (["--engine", "tensorrt-rtx", "--batch", "4/2/1"], 1, "no batch goes from 4 over 2 to 1"),
        (["--engine", "tensorrt-rtx", "--compute-capability", "61"], 1, "no plan for the compute capability 61"),
        (["--engine", "tensorrt-rtx", "--precision", "fp16"], 1, "has no precision 'fp16'"),
        (["--engine", "abacus"], 1, "there is no engine 'abacus'"),
        ([], 2, "--engine"),
    ],
)
def test_what_cannot_be_built(run: Run, folder: Path, words: list[str], code: int, what: str) -> None:
    before = (folder / "pahi.json").read_bytes()
    result = run("build", str(folder), *words)
    assert result.exit_code == code
    assert what in result.stderr
    assert (folder / "pahi.json").read_bytes() == before
