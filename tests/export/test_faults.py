"""The first node that makes NaN or infinity is named, and nothing that holds it on purpose."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from pahi_rt.export import faults, marked
from pahi_rt.export.faults import find_fault

X = np.array([1.0, 4.0], np.float32)


def save(path: Path, nodes: list[onnx.NodeProto], **weights: object) -> Path:
    graph = helper.make_graph(
        nodes,
        "graph",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [2])],
        [helper.make_tensor_value_info(nodes[-1].output[0], TensorProto.FLOAT, [2])],
        [numpy_helper.from_array(np.array(value, np.float32), name) for name, value in weights.items()],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10), path)
    return path


def test_a_graph_of_numbers_has_no_fault(tmp_path: Path) -> None:
    graph = save(tmp_path / "g.onnx", [helper.make_node("Sqrt", ["x"], ["y"], "root")])
    assert find_fault(graph, {"x": X}) is None


@pytest.mark.parametrize("portion", [1, 1 << 20])
def test_the_first_node_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, portion: int) -> None:
    monkeypatch.setattr(marked, "PORTION", portion)
    nodes = [
        helper.make_node("Neg", ["x"], ["a"], "turn"),
        helper.make_node("Sqrt", ["a"], ["b"], "root"),
        helper.make_node("Exp", ["b"], ["c"], "grow"),
    ]
    assert find_fault(save(tmp_path / "g.onnx", nodes), {"x": X}) == "NaN first in the node root (Sqrt)"


def test_the_graph_runs_once_for_as_many_nodes_as_memory_holds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    runs: list[list[str]] = []

    def run_marked(path: Path, names: list[str], feeds: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        runs.append(names)
        return marked.run_marked(path, names, feeds)

    monkeypatch.setattr(faults, "run_marked", run_marked)
    names = ["x", *(f"t{number}" for number in range(50))]
    nodes = [helper.make_node("Neg", [one], [other], other) for one, other in zip(names, names[1:], strict=False)]
    assert find_fault(save(tmp_path / "g.onnx", nodes), {"x": X}) is None
    assert runs == [names[1:]]


def test_infinity_is_named_where_it_arises_and_not_where_it_becomes_nan(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Mul", ["x", "large"], ["a"], "scale"),
        helper.make_node("Sub", ["a", "a"], ["b"], "difference"),
    ]
    graph = save(tmp_path / "g.onnx", nodes, large=3e38)
    assert find_fault(graph, {"x": X}) == "infinity first in the node scale (Mul)"


def test_a_mask_of_infinity_is_no_fault(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Add", ["x", "mask"], ["a"], "hide"),
        helper.make_node("Softmax", ["a"], ["b"], "share"),
    ]
    assert find_fault(save(tmp_path / "g.onnx", nodes, mask=[0, -np.inf]), {"x": X}) is None


def test_a_weight_of_nan_is_named(tmp_path: Path) -> None:
    graph = save(tmp_path / "g.onnx", [helper.make_node("Add", ["x", "w"], ["y"], "add")], w=[0, np.nan])
    assert find_fault(graph, {"x": X}) == "the weight w holds NaN"
