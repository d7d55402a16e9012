"""Sensitivities: layers in 8 bits draw what a graph quantised there draws, and the rule follows their errors."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest
from typer.testing import CliRunner

from pahi_rt.bench import sensitivity
from pahi_rt.bench.sensitivity import Bench, Settings, follow_rule
from pahi_rt.bench.switches import unpack_weights
from pahi_rt.cli import app
from pahi_rt.errors import PahiError, PromptError
from pahi_rt.export.inputs import Inputs
from pahi_rt.export.quantise import quantise
from pahi_rt.runtimes.onnxruntime import require_onnxruntime

LAYERS = ("unets.0.conv_in/Conv", "unets.0.mid_block.resnets.0.conv1/Conv", "decoder.decoder.layers.0/Conv")


@pytest.fixture
def graph(tmp_path: Path) -> Path:
    """Three convolutions, the second of which has weights in 16 bits, as an export writes them."""
    random = np.random.default_rng(0)
    noise = ir.val("noise", ir.DataType.FLOAT, ["batch", 4, 8, 8])
    value = noise
    nodes: list[ir.Node] = []
    weights: list[ir.Value] = []
    for number, name in enumerate(LAYERS):
        kernel = random.normal(0, 0.3, (4, 4, 3, 3)).astype(np.float16 if number == 1 else np.float32)
        weight = ir.Value(name=f"kernel.{number}", const_value=ir.tensor(kernel, name=f"kernel.{number}"))
        weights.append(weight)
        if number == 1:
            nodes.append(ir.node("Cast", [weight], {"to": ir.DataType.FLOAT}, name=f"kernel.{number}/Cast"))
            weight = nodes[-1].outputs[0]
            weight.name = "kernel.1.float32"
        nodes.append(ir.node("Conv", [value, weight], {"pads": [1, 1, 1, 1]}, name=name))
        value = nodes[-1].outputs[0]
        # Without a type the quantizer would leave it as it is.
        value.name, value.type = f"result.{number}", ir.TensorType(ir.DataType.FLOAT)
    nodes.append(ir.node("Round", [value], name="Round"))
    image = nodes[-1].outputs[0]
    image.name, image.type, image.shape = "image", ir.TensorType(ir.DataType.FLOAT), ir.Shape(["batch", 4, 8, 8])
    made = ir.Graph([noise], [image], nodes=nodes, initializers=weights, opset_imports={"": 20}, name="g")
    ir.save(ir.Model(made, ir_version=10), tmp_path / "graph.onnx")
    return tmp_path / "graph.onnx"


@pytest.fixture
def rows() -> list[Inputs]:
    random = np.random.default_rng(1)
    return [{"noise": random.normal(0, 40, (1, 4, 8, 8)).astype(np.float32)} for _ in range(4)]


@pytest.fixture
def bench(graph: Path, rows: list[Inputs], tmp_path: Path) -> Bench:
    (tmp_path / "scratch").mkdir()
    return Bench(graph, rows, rows, tmp_path / "scratch")


def draw(model: ir.Model, rows: list[Inputs]) -> np.ndarray:
    session = require_onnxruntime().InferenceSession(ir.serde.serialize_model(model).SerializeToString())
    return np.concatenate([session.run(None, row)[0] for row in rows])


def test_layers_are_counted_and_those_of_an_export_known(bench: Bench) -> None:
    assert list(bench.gflop) == list(LAYERS) and bench.exported == list(LAYERS[1:])
    assert bench.components == dict(zip(LAYERS, ("unet", "unet", "decoder"), strict=True))
    assert bench.gflop[LAYERS[0]] == 2 * 4 * 64 * 36 / 1e9


def test_only_layers_in_8_bits_change_pictures(bench: Bench) -> None:
    assert not bench.draw([]).any()
    alone = [bench.draw([name]).mean() for name in LAYERS]
    assert all(error > 0 for error in alone) and len(set(alone)) == len(LAYERS)
    assert bench.draw(LAYERS).mean() > max(alone)


def test_switches_draw_what_an_export_draws(bench: Bench, graph: Path, rows: list[Inputs], tmp_path: Path) -> None:
    plain = ir.load(graph)
    expected = draw(plain, rows)
    unpack_weights(plain)
    (tmp_path / "export").mkdir()
    error = (draw(quantise(plain, rows, tmp_path / "export"), rows) - expected) ** 2
    # What was drawn is rounded here, and not there.
    assert bench.draw(bench.exported).mean() * 255**2 == pytest.approx(error.mean(), rel=0.2)


def test_the_rule_leaves_out_what_costs_most() -> None:
    errors = {"a": 9e-4, "b": 5e-4, "c": 4e-4, "d": 0.0}
    assert follow_rule(list("abcd"), errors, 30.0) == {"b", "c", "d"}
    assert follow_rule(list("abcd"), errors, 10.0) == set("abcd")
    assert follow_rule(list("abcd"), errors, 90.0) == {"d"}


def test_the_whole_report(graph: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, rows: list[Inputs]) -> None:
    monkeypatch.setattr(sensitivity, "_make_inputs", lambda bundle, graph, prompts: rows)
    monkeypatch.setattr("pahi_rt.bundle.Bundle.file", lambda bundle, name: graph)
    report = tmp_path / "report.json"
    words = ["bench", "sensitivity", "emoji", "--target", "20", "--output", str(report)]
    result = CliRunner().invoke(app, words)
    assert result.exit_code == 0, result.stderr
    data = json.loads(report.read_text())
    ranked = [layer["error"] / layer["gflop"] for layer in data["layers"]]
    assert ranked == sorted(ranked, reverse=True) and len(ranked) == len(LAYERS)
    assert data["by_rule"]["expected_psnr_db"] is None or data["by_rule"]["expected_psnr_db"] >= 20
    assert [layer["is_exported"] for layer in data["layers"] if layer["name"] == LAYERS[0]] == [False]
    assert LAYERS[0].removesuffix("/Conv") in result.stdout


def test_one_prompt_is_too_few(tmp_path: Path) -> None:
    (tmp_path / "prompts.txt").write_text("a cat\n")
    with pytest.raises(PromptError) as caught:
        sensitivity.measure("emoji", Settings(str(tmp_path / "prompts.txt")))
    assert caught.value.fix == "give two prompts or more"


def test_a_bundle_of_fewer_bits_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pahi_rt.bundle.Bundle.precisions", property(lambda bundle: ["int8"]))
    with pytest.raises(PahiError, match="no graph that computes in 32 bits") as caught:
        sensitivity.measure("emoji", Settings())
    assert "--precision fp32" in caught.value.fix
