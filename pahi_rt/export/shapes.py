"""Shapes of which only the batch is open, written into the graph as constants.

The exporter has the graph compute what a value is reshaped to, from the shapes of other values, in up to six nodes. But
only the batch is open, and Reshape finds one size by itself. Each of these nodes takes longer to start than to run, and
on a GPU's runtime they stand on the CPU.
"""

from __future__ import annotations

from typing import Any, TypeGuard

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray
from onnx_ir.passes.common import RemoveUnusedNodesPass

Size = int | ir.SymbolicDim


def fix_shapes(model: ir.Model) -> None:
    """Give every Reshape a constant target if only one size is open, and swap the last axes of keys in one node."""
    for node in list(model.graph):
        if node.op_type == "Reshape":
            _fix_target(node, model.graph)
    for node in list(model.graph):
        if node.op_type == "Reshape":
            _swap_in_one(node, model.graph)
    RemoveUnusedNodesPass()(model)


def _fix_target(node: ir.Node, graph: ir.Graph) -> None:
    target = node.inputs[1]
    sizes = None if target is None or target.const_value is not None else _sizes(target)
    if sizes is None or sum(not isinstance(size, int) or size == -1 for size in sizes) > 1:
        return
    fixed = np.array([size if isinstance(size, int) else -1 for size in sizes], np.int64)
    node.replace_input_with(1, add_constant(graph, f"{node.outputs[0].name}.shape", fixed))


def add_constant(graph: ir.Graph, name: str, array: NDArray[Any]) -> ir.Value:
    """A new initializer of the graph."""
    tensor = ir.tensor(array, name=name)
    value = ir.Value(name=name, type=ir.TensorType(tensor.dtype), shape=ir.Shape(array.shape), const_value=tensor)
    graph.register_initializer(value)
    return value


def _sizes(value: ir.Value | None) -> list[Size] | None:
    """The content of a value that holds sizes, as far as the graph says it."""
    if value is None:
        return None
    if value.const_value is not None:
        return [int(size) for size in value.const_value.numpy().reshape(-1)]
    node = value.producer()
    if node is None:
        return None
    if node.op_type == "Shape":
        shape = node.inputs[0].shape if node.inputs[0] is not None else None
        return None if shape is None else list(shape)[node.attributes.get_int("start", 0) : _end(node)]
    parts = [_sizes(given) for given in node.inputs]
    if not _all_known(parts):
        return None
    if node.op_type == "Concat":
        return [size for part in parts for size in part]
    if node.op_type == "Slice" and len(parts) == 3:
        data, (start,), (end,) = parts
        return data[start:end] if isinstance(start, int) and isinstance(end, int) else None
    return None


def _end(node: ir.Node) -> int | None:
    return node.attributes.get_int("end") if "end" in node.attributes else None


def _all_known(parts: list[list[Size] | None]) -> TypeGuard[list[list[Size]]]:
    return None not in parts


def _swap_in_one(node: ir.Node, graph: ir.Graph) -> None:
    """Replace Reshape, Transpose and Reshape by one Transpose where they swap the last two of four axes."""
    swap = _producer(node, "Transpose")
    flat = _producer(swap, "Reshape")
    if swap is None or flat is None or flat.inputs[0] is None or flat.inputs[0].shape is None:
        return
    batch, *rest = flat.inputs[0].shape
    if len(rest) != 3 or not all(isinstance(size, int) for size in rest):
        return
    heads, length, width = rest
    if (
        tuple(swap.attributes.get_ints("perm", ())) != (0, 2, 1)
        or _sizes(flat.inputs[1]) != [-1, length, width]
        or _sizes(node.inputs[1]) not in ([-1, heads, width, length], [batch, heads, width, length])
    ):
        return
    source, order = flat.inputs[0], [0, 1, 3, 2]
    before = _producer(flat, "Transpose")
    if before is not None and before.inputs[0] is not None:
        first = before.attributes.get_ints("perm", range(4)[::-1])
        source, order = before.inputs[0], [first[axis] for axis in order]
    swapped = ir.node("Transpose", [source], {"perm": order})
    swapped.metadata_props.update(node.metadata_props)
    swapped.outputs[0].name, swapped.outputs[0].type = node.outputs[0].name, node.outputs[0].type
    swapped.outputs[0].shape = ir.Shape([batch, heads, width, length])
    graph.insert_before(node, swapped)
    ir.convenience.replace_all_uses_with(node.outputs[0], swapped.outputs[0], replace_graph_outputs=True)


def _producer(node: ir.Node | None, kind: str) -> ir.Node | None:
    """The node that makes a node's first input, if it is of this kind."""
    value = node.inputs[0] if node is not None else None
    found = value.producer() if value is not None else None
    return found if found is not None and found.op_type == kind else None
