"""Operators of the embedded model by kind: what they are, do and take."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
import pytest
from typer.testing import CliRunner

from pahi_rt.bench import operators
from pahi_rt.bench.operators import ATTENTION, EIGHT_BITS, KINDS, LAYOUT, NORM, PRODUCT, SHAPE, Operator, count
from pahi_rt.bench.reports.report import Limits
from pahi_rt.bench.reports.table2 import COMPONENTS
from pahi_rt.bench.work import count_work
from pahi_rt.bundle import open_bundle
from pahi_rt.cli import app

LIMITS = Limits("", fp32_gflop_per_s=100, int8_gop_per_s=400, copy_gb_per_s=10, threads=2)


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    path = tmp_path_factory.mktemp("report") / "report.json"
    words = ["bench", "operators", "emoji", "--pictures", "2", "--force", "--output", str(path)]
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(operators, "measure_limits", lambda threads: LIMITS)
        result = CliRunner().invoke(app, words)
    assert result.exit_code == 0, result.stderr
    kinds: dict[str, Any] = json.loads(path.read_text())["kinds"]
    return kinds


def test_every_kind_has_a_row(report: dict[str, Any]) -> None:
    assert tuple(report) == KINDS
    assert set(report[EIGHT_BITS].values()) == {0}
    for kind in (PRODUCT, ATTENTION, NORM, LAYOUT, SHAPE):
        assert report[kind]["nodes"] >= report[kind]["small"] > 0
        assert report[kind]["kernels"] > 0 and report[kind]["ms"] > 0


def test_products_are_those_that_the_limit_counts(report: dict[str, Any]) -> None:
    bundle = open_bundle("emoji")
    work = count_work(bundle.file(bundle.graph(1, "pahi").file))
    gflop = report[PRODUCT]["gflop"] + report[ATTENTION]["gflop"]
    assert gflop == pytest.approx(sum(part.gflop for part in work.values()), rel=1e-3)
    assert report[ATTENTION]["gflop"] < report[PRODUCT]["gflop"] / 100


def test_attention_is_two_products_and_a_softmax(report: dict[str, Any]) -> None:
    bundle = open_bundle("emoji")
    nodes = ir.load(bundle.file(bundle.graph(1, "pahi").file)).graph
    assert report[ATTENTION]["nodes"] == 3 * sum(node.op_type == "Softmax" for node in nodes)


def test_nodes_that_can_be_counted_by_hand(tmp_path: Path) -> None:
    noise = ir.val("noise", ir.DataType.FLOAT, ["batch", 4, 8, 8])
    kernel = ir.Value(name="kernel", const_value=ir.tensor(np.zeros((6, 4, 3, 3), np.float32), name="kernel"))
    conv = ir.node("Conv", [noise, kernel], {"pads": [1, 1, 1, 1]}, name="unets.0/Conv")
    shape = ir.node("Shape", [conv.outputs[0]], name="decoder/Shape")
    result = ir.node("Reshape", [conv.outputs[0], shape.outputs[0]], name="decoder/Reshape")
    conv.outputs[0].name, shape.outputs[0].name, result.outputs[0].name = "convolved", "shape", "image"
    result.outputs[0].type, result.outputs[0].shape = ir.TensorType(ir.DataType.FLOAT), ir.Shape(["batch", 6, 8, 8])
    graph = ir.Graph(
        [noise],
        [result.outputs[0]],
        nodes=[conv, shape, result],
        initializers=[kernel],
        opset_imports={"": 20},
        name="g",
    )
    ir.save(ir.Model(graph, ir_version=10), tmp_path / "graph.onnx")
    unet, decoder = COMPONENTS.index("unet"), COMPONENTS.index("decoder")
    megabytes = 4 * (4 * 64 + 216 + 6 * 64) / 1e6
    assert count(tmp_path / "graph.onnx") == [
        Operator(PRODUCT, unet, 2 * 6 * 64 * 36 / 1e9, megabytes),
        Operator(SHAPE, decoder, 0, (4 * 6 * 64 + 8 * 4) / 1e6),
        Operator(LAYOUT, decoder, 0, (4 * 2 * 6 * 64 + 8 * 4) / 1e6),
    ]


def test_a_large_product_is_not_small() -> None:
    assert not Operator(PRODUCT, 2, gflop=30, megabytes=1).is_small
    assert not Operator(LAYOUT, 2, gflop=0, megabytes=100).is_small
    assert Operator(PRODUCT, 2, gflop=0.1, megabytes=1).is_small


def test_the_roofline_is_the_longer_of_computing_and_moving() -> None:
    assert Operator(PRODUCT, 2, gflop=2, megabytes=1).roofline_ms(LIMITS) == pytest.approx(20)
    assert Operator(EIGHT_BITS, 2, gflop=2, megabytes=1).roofline_ms(LIMITS) == pytest.approx(5)
    assert Operator(LAYOUT, 2, gflop=0, megabytes=30).roofline_ms(LIMITS) == pytest.approx(3)


@pytest.mark.parametrize(
    ("operator", "is_weighted", "kind"),
    [
        ("MatMul", True, PRODUCT),
        ("MatMul", False, ATTENTION),
        ("QLinearConv", True, EIGHT_BITS),
        ("Shape", False, SHAPE),
    ],
)
def test_kinds(operator: str, is_weighted: bool, kind: str) -> None:
    assert operators.find_kind(operator, is_weighted) == kind
