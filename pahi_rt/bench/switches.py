"""A graph whose layers compute in 32 or in 8 bits as one input says: any choice of them is tried in one session.

Each layer becomes an If with both forms in it. Its 8-bit form is exactly what `pahi_rt.export.quantise` makes of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
from onnx import TensorProto, helper
from onnxruntime.quantization import TensorsData

from pahi_rt.export.quantise import load_weights, rewrite

_WIDENING = ("Cast", "Mul")
SWITCHES = "in_eight_bits"
"""The added input: bool [layers]."""


def add_switches(
    model: onnx.ModelProto, layers: Sequence[onnx.NodeProto], ranges: TensorsData, folder: Path
) -> onnx.ModelProto:
    """A copy of `model` with a switch for each of its nodes `layers`; `ranges` are those of `measure_ranges`.

    Weights in 32 bits stay where they are, in `folder`; those in 8 bits are in the model.
    """
    switched = onnx.ModelProto()
    switched.CopyFrom(model)
    numbers = {layer.name: number for number, layer in enumerate(layers)}
    weights = {tensor.name: tensor for tensor in model.graph.initializer}
    nodes = [
        _make_switch(node, numbers[node.name], weights, ranges, model, folder) if node.name in numbers else node
        for node in model.graph.node
    ]
    each = [_switch(number) for number in range(len(layers))]
    split = helper.make_node("Split", [SWITCHES], each, axis=0, num_outputs=len(layers), name="switches")
    del switched.graph.node[:]
    switched.graph.node.extend([split, *nodes])
    switched.graph.input.append(helper.make_tensor_value_info(SWITCHES, TensorProto.BOOL, [len(layers)]))
    return switched


def unpack_weights(model: ir.Model) -> None:
    """Replace weights that are stored in fewer bits and widened by nodes with the results of these nodes, in place."""
    for node in list(model.graph):
        read = [value.const_value for value in node.inputs if value is not None]
        stored = [tensor.numpy() for tensor in read if tensor is not None]
        if node.op_type not in _WIDENING or not stored or len(stored) < len(read):
            continue
        array = stored[0].astype(np.float32) if node.op_type == "Cast" else stored[0] * stored[1]
        name = str(node.outputs[0].name)
        tensor = ir.tensor(array, name=f"{name}.unpacked")
        weight = ir.Value(
            name=tensor.name, type=ir.TensorType(tensor.dtype), shape=ir.Shape(array.shape), const_value=tensor
        )
        model.graph.register_initializer(weight)
        ir.convenience.replace_all_uses_with(node.outputs[0], weight)
        model.graph.remove(node, safe=True)


def _switch(number: int) -> str:
    return f"{SWITCHES}.{number}"


def _make_switch(
    node: onnx.NodeProto,
    number: int,
    weights: dict[str, onnx.TensorProto],
    ranges: TensorsData,
    model: onnx.ModelProto,
    folder: Path,
) -> onnx.NodeProto:
    plain = onnx.NodeProto()
    plain.CopyFrom(node)
    plain.output[0] = f"{node.output[0]}.in_32"
    branches = {"then_branch": _quantise_alone(node, weights, ranges, model, folder), "else_branch": _branch([plain])}
    return helper.make_node("If", [_switch(number)], list(node.output), name=f"{node.name}/switch", **branches)


def _quantise_alone(
    node: onnx.NodeProto,
    weights: dict[str, onnx.TensorProto],
    ranges: TensorsData,
    model: onnx.ModelProto,
    folder: Path,
) -> onnx.GraphProto:
    """The 8-bit form of a node, as a graph that reads the node's input from the graph around it."""
    source, result = node.input[0], node.output[0]
    # Names of the graph around a branch may not be used again inside it.
    own = {name: f"{name}.of.{node.name}" for name in (*node.input, *node.output) if name}
    graph = onnx.GraphProto(name="alone")
    copy = graph.node.add()
    copy.CopyFrom(node)
    copy.input[:], copy.output[:] = [own[name] for name in node.input], [own[result]]
    graph.input.append(helper.make_tensor_value_info(own[source], TensorProto.FLOAT, None))
    graph.output.append(helper.make_tensor_value_info(own[result], TensorProto.FLOAT, None))
    for name in node.input[1:]:
        graph.initializer.add().CopyFrom(weights[name])
    load_weights(graph, set(node.input), folder)
    for tensor in graph.initializer:
        tensor.name = own[tensor.name]
    known = {own[name]: ranges[name] for name in (source, result)}
    alone = onnx.ModelProto(graph=graph, opset_import=model.opset_import, ir_version=model.ir_version)
    made = rewrite(alone, [copy], TensorsData(ranges.calibration_method, known)).graph
    del made.input[:]
    for reader in made.node:
        reader.input[:] = [source if name == own[source] else name for name in reader.input]
    return made


def _branch(nodes: Sequence[onnx.NodeProto]) -> onnx.GraphProto:
    result = helper.make_tensor_value_info(nodes[-1].output[0], TensorProto.FLOAT, None)
    return helper.make_graph(nodes, "branch", [], [result])
