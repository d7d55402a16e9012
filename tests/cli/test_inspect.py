from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from pahi_rt.bundle import open_bundle
from tests.cli.conftest import Run
from tests.test_qualification import list_report, make_report, make_row

ENGINE = {
    "file": "weights.bin",
    "graph": "one-step.onnx",
    "graph_sha256": "0" * 64,
    "runtime": "tensorrt-rtx",
    "runtime_version": "1.7.1",
    "compute_capabilities": ["86", "89"],
    "batch": [1, 2, 4],
}


def test_tables(run: Run, contract: Path) -> None:
    result = run("inspect", str(contract))
    assert result.exit_code == 0
    text = result.stdout.splitlines()
    assert text[:5] == [
        "name          contract",
        "format        3",
        "picture       32 x 32 pixels from 4 x 4 x 4 noise",
        "noise recipe  philox-boxmuller-1",
        "prompt        24 tokens, padded with 542",
    ]
    assert "  1 step   one-step.onnx  fp32  opset 18  input_ids, noise -> image" in text
    assert [line for line in text if line and not line.startswith(" ")][5:] == [
        "parts",
        "graphs",
        "parity",
        "files",
        "made with",
        str(contract),
    ]
    assert result.stderr == f"next: pahi-rt inspect {contract} --verify\n"


def test_engines(run: Run, edit: Callable[..., Path]) -> None:
    folder = edit(lambda data: data.update(engines=[ENGINE]))
    line = "  weights.bin  tensorrt-rtx 1.7.1  compute capability 86, 89  batch 1/2/4"
    assert line in run("inspect", str(folder)).stdout.splitlines()


PARITY = {"max_error": 1.234e-6, "psnr_db": 120.0, "levels_within_one": 1.0, "tolerance": "max error <= 0.002"}


def test_where_diffusers_differs_stands_apart(run: Run, edit: Callable[..., Path]) -> None:
    against = "diffusers 0.42.1 X, fp32; no watermark; no fresh noise between steps"
    rows = [{"graph": "PyTorch fp32, 2 steps", "against": against, **PARITY}]
    text = run("inspect", str(edit(lambda data: data.update(parity=rows)))).stdout
    compared = "diffusers 0.42.1 X, fp32  120.0 dB  1.2e-06 of [0, 1] at most  max error <= 0.002"
    assert f"parity\n  PyTorch fp32, 2 steps  against {compared}\n" in text
    notes = ("no watermark", "no fresh noise between steps")
    lines = "".join(f"  PyTorch fp32, 2 steps  {note}\n" for note in notes)
    assert f"where diffusers differs\n{lines}" in text


def test_verify(run: Run) -> None:
    result = run("inspect", "emoji", "--verify")
    assert result.exit_code == 0
    assert result.stdout.endswith("emoji: all 5 files are what the manifest says\n")
    assert result.stderr == "next: pahi-rt generate 'a red apple' --bundle emoji\n"


@pytest.mark.parametrize("verify", [True, False])
def test_json(run: Run, contract: Path, verify: bool) -> None:
    document = json.loads(run("inspect", str(contract), "--json", *["--verify"][: int(verify)]).stdout)
    assert (document.pop("path"), document.pop("hub"), document.pop("verified")) == (str(contract), None, verify)
    assert document == json.loads((contract / "pahi.json").read_text())


def test_a_row_of_another_machine_is_stale(run: Run, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bundle = open_bundle(folder)
    monkeypatch.setattr("onnxruntime.__version__", "9.9")
    list_report(bundle, make_report(bundle, make_row(bundle), make_row(bundle, 1, device="CPU (avx1024)")))
    text = run("inspect", str(folder)).stdout
    assert re.search(r"^  pass +one-step.onnx", text, re.MULTILINE)
    found = r"^  stale \(pass\) +two-step.onnx .* it was measured on CPU \(avx1024\), and this is CPU"
    assert re.search(found, text, re.MULTILINE)


def test_priors(run: Run, contract_with_priors: Path) -> None:
    text = run("inspect", str(contract_with_priors)).stdout.splitlines()
    assert "prior hi      KL to the standard Gaussian unknown" in text
    assert "prior pahi    12.5 nats from the standard Gaussian" in text
    assert "  prior pahi   contract/pahi 1  Apache-2.0  sha256 0000000000000000" in text
    inputs = "fp32  opset 18  input_ids, noise, prior_strength -> image"
    graphs = [f"  {n} with {kind}" for kind in ("hi", "pahi") for n in ("1 step", "2 steps")]
    found = [line for line in text if line.endswith(inputs)]
    assert [line[: len(graph)] for line, graph in zip(found, graphs, strict=True)] == graphs
    assert "two-step-pahi.onnx" in found[3]


def test_a_bundle_from_the_hub(run: Run, contract: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    commit = "0123456789abcdef0123456789abcdef01234567"

    def snapshot_download(*_: object, local_dir: Path | None, **__: object) -> str:
        return str(shutil.copytree(contract, local_dir or cache / commit, dirs_exist_ok=True))

    monkeypatch.setattr("huggingface_hub.snapshot_download", snapshot_download)
    pinned = f"hub:someone/contract@{commit}"
    result = run("inspect", "someone/contract")
    assert result.stdout.splitlines()[-1].endswith(f"/hub/someone--contract/{commit}, from {pinned}")
    assert result.stderr.startswith(f"note: hub:someone/contract is commit {commit} now; {pinned} stays the same\n")
    assert json.loads(run("inspect", pinned, "--json").stdout)["hub"] == pinned
