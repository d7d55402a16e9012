"""The exported graph: what is in it, what must not be, and that making it stays quiet."""

from __future__ import annotations

import logging
import warnings
from collections import Counter
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest

from pahi_rt.bundle import Bundle
from pahi_rt.errors import PahiError
from pahi_rt.export.drawing import draw_reference
from pahi_rt.export.fused import FusedGenerator
from pahi_rt.export.graph import check_time_is_folded, export_graph, fold_transposes, silence
from pahi_rt.export.inputs import Inputs
from pahi_rt.export.parity import SAME_ARITHMETIC, Reference, check_graph
from pahi_rt.export.weights import WeightsFile, store_weights
from pahi_rt.models.generators import Generator


def read(bundle: Bundle, steps: int) -> onnx.ModelProto:
    return onnx.load(bundle.path / bundle.graph(steps).file, load_external_data=False)


@pytest.mark.parametrize("steps", [1, 2])
def test_graph_is_valid_and_portable(bundle: Bundle, steps: int) -> None:
    path = bundle.path / bundle.graph(steps).file
    onnx.checker.check_model(str(path), full_check=True)
    model = read(bundle, steps)
    assert [(entry.domain, entry.version) for entry in model.opset_import if entry.domain == ""] == [("", 20)]
    assert {node.domain for node in model.graph.node} == {""}  # no operator that only ONNX Runtime knows


@pytest.mark.parametrize("steps", [1, 2])
def test_nothing_of_the_time_embedding_is_left(bundle: Bundle, steps: int) -> None:
    model = read(bundle, steps)
    assert not {"Sin", "Cos"} & {node.op_type for node in model.graph.node}
    assert not [tensor.name for tensor in model.graph.initializer if "time_emb" in tensor.name]


@pytest.mark.parametrize("steps", [1, 2])
def test_no_shape_is_computed_but_the_batch(bundle: Bundle, steps: int) -> None:
    kinds = Counter(node.op_type for node in read(bundle, steps).graph.node)
    assert (kinds["Shape"], kinds["Slice"]) == (1, 0)


def test_nodes_have_the_names_of_their_modules(bundle: Bundle) -> None:
    names = [node.name for node in read(bundle, 2).graph.node]
    assert max(Counter(names).values()) == 1
    assert {"unets.0.conv_in/Conv", "unets.1.conv_in/Conv", "decoder.decoder.layers.0/Conv"} <= set(names)


def test_graph_tells_nothing_about_the_machine(bundle: Bundle) -> None:
    content = (bundle.path / "two-step-w16.onnx").read_bytes()
    assert b"site-packages" not in content
    assert b".py" not in content


def test_the_exporter_is_silenced_and_others_are_not(capfd: pytest.CaptureFixture[str]) -> None:
    with silence():
        print("[torch.onnx] Obtain model graph")
        warnings.warn("internal", stacklevel=1)
        logging.getLogger("torch.onnx").warning("internal")
    assert capfd.readouterr() == ("", "")
    print("ours")
    assert capfd.readouterr().out == "ours\n"
    assert logging.getLogger("torch.onnx").isEnabledFor(logging.WARNING)


def test_a_sine_is_refused() -> None:
    angle = ir.Value(name="angle", type=ir.TensorType(ir.DataType.FLOAT), shape=ir.Shape([1]))
    node = ir.node("Sin", [angle], name="time_proj/Sin")
    graph = ir.Graph([angle], node.outputs, nodes=[node], opset_imports={"": 20})
    with pytest.raises(PahiError, match="time_proj/Sin"):
        check_time_is_folded(ir.Model(graph, ir_version=10))


def test_shared_matrices_are_transposed_once() -> None:
    matrix = np.arange(6, dtype=np.float32).reshape(2, 3)
    weight = ir.Value(name="w", const_value=ir.tensor(matrix), type=ir.TensorType(ir.DataType.FLOAT))
    turned = [ir.node("Transpose", [weight], {"perm": [1, 0]}) for _ in range(2)]
    total = ir.node("Add", [turned[0].outputs[0], turned[1].outputs[0]])
    graph = ir.Graph([], total.outputs, nodes=[*turned, total], initializers=[weight], opset_imports={"": 20})
    fold_transposes(graph)
    assert [node.op_type for node in graph] == ["Add"]
    assert list(graph.initializers) == ["w.transposed"]
    assert total.inputs[0] is total.inputs[1]
    stored = graph.initializers["w.transposed"].const_value
    assert stored is not None and np.array_equal(stored.numpy(), matrix.T)


@pytest.mark.parametrize("opset", [17, 24])
def test_refuses_other_opsets(generator: Generator, opset: int) -> None:
    with pytest.raises(PahiError, match=f"opset {opset}"):
        export_graph(FusedGenerator(generator, 1), opset)


@pytest.mark.slow
def test_opset_23_is_shorter_silent_and_equal(
    generator: Generator, bundle: Bundle, inputs: Inputs, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    model = export_graph(FusedGenerator(generator, 1), 23)
    assert capfd.readouterr() == ("", "")
    operators = Counter(node.op_type for node in model.graph)
    assert operators["Attention"] and operators["GroupNormalization"]
    assert sum(operators.values()) < 0.7 * len(read(bundle, 1).graph.node)
    with WeightsFile(tmp_path / "weights.bin") as weights:
        store_weights(model, weights)
    ir.save(model, tmp_path / "one-step.onnx")
    reference = Reference("PyTorch fp32", draw_reference(generator, inputs, 1), SAME_ARITHMETIC)
    rows = check_graph(tmp_path / "one-step.onnx", inputs, [reference])
    assert [row.against for row in rows] == ["PyTorch fp32", "itself, batch 3 and batch 1"]
