from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from pahi_rt.bundle import Bundle, open_bundle
from tests.cli.conftest import Run


@pytest.fixture
def request_made(monkeypatch: pytest.MonkeyPatch, contract: Path) -> dict[str, Any]:
    """What the verb asks of pahi_rt.export, whose place a fake takes."""
    made: dict[str, Any] = {}

    def export_bundle(model: str, output: Path, *, on_stage: Callable[..., None], **options: Any) -> Bundle:
        made.update(model=model, output=output, **options)
        on_stage("load model", 1.25, None)
        on_stage("trace", 12.34, 1_600_000)
        return open_bundle(contract)

    fake = ModuleType("pahi_rt.export.exporter")
    fake.export_bundle = export_bundle  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "pahi_rt.export.exporter", fake)
    return made


def test_defaults(run: Run, request_made: dict[str, Any], contract: Path) -> None:
    result = run("export", "owner/model", "-o", "out/mine")
    assert (result.exit_code, result.stdout) == (0, f"{contract}\n")
    assert result.stderr == "load model  1.2 s\ntrace  12.3 s, 1.6 MB\nnext: pahi-rt inspect out/mine --verify\n"
    assert request_made == {
        "model": "owner/model",
        "output": Path("out/mine"),
        "name": "mine",
        "steps": (1, 2),
        "precisions": ("fp32",),
        "priors": (),
        "decoder": None,
        "variant": None,
        "loras": (),
        "size": None,
        "opset": 20,
        "calibration": None,
        "min_psnr": None,
        "scorers": (),
        "overwrite": False,
    }


def test_options(run: Run, request_made: dict[str, Any]) -> None:
    words = ["--steps", "1", "--name", "n", "--precision", "w16,fp16", "--force", "--json", "--decoder", "o/taesd"]
    result = run("export", "model", "-o", "out", *words)
    assert json.loads(result.stdout)["name"] == "contract"
    asked = [request_made[key] for key in ("steps", "name", "precisions", "overwrite", "decoder")]
    assert asked == [(1,), "n", ("w16", "fp16"), True, "o/taesd"]


def test_priors(run: Run, request_made: dict[str, Any]) -> None:
    run("export", "model", "-o", "out", "--prior", "runs/hi/prior.safetensors", "--prior", "pahi.safetensors")
    assert request_made["priors"] == [Path("runs/hi/prior.safetensors"), Path("pahi.safetensors")]


def test_variant_and_loras(run: Run, request_made: dict[str, Any]) -> None:
    run("export", "model", "-o", "out", "--variant", "fp16", "--lora", "a.safetensors:0.5", "--lora", "b.safetensors")
    assert (request_made["variant"], request_made["loras"]) == ("fp16", ["a.safetensors:0.5", "b.safetensors"])


def test_size_and_opset(run: Run, request_made: dict[str, Any]) -> None:
    run("export", "model", "-o", "out", "--height", "512", "--width", "768", "--opset", "23")
    assert (request_made["size"], request_made["opset"]) == ((512, 768), 23)


def test_how_near_graphs_of_fewer_bits_must_come(run: Run, request_made: dict[str, Any]) -> None:
    run("export", "model", "-o", "out", "--precision", "int8", "--min-psnr", "28")
    assert request_made["min_psnr"] == 28


def test_a_height_without_a_width(run: Run, request_made: dict[str, Any]) -> None:
    assert run("export", "model", "-o", "out", "--height", "512").exit_code == 2
    assert request_made == {}


@pytest.mark.parametrize("steps", ["", "one", "1;2", "1,"])
def test_steps_that_are_no_numbers(run: Run, request_made: dict[str, Any], steps: str) -> None:
    result = run("export", "model", "-o", "out", "--steps", steps)
    assert result.exit_code == 2
    assert request_made == {}


def test_a_missing_package_names_the_extra(run: Run, without: Callable[[str], None]) -> None:
    without("onnx_ir")  # the first that is imported
    result = run("export", "model", "-o", "out")
    assert result.exit_code == 1
    assert result.stderr == (
        "error: this needs the package onnx_ir, which is not installed\nfix: pip install 'pahi-rt[export]'\n"
    )
