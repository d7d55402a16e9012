"""Counts the operations and bytes that one picture needs, in a graph or in a PyTorch module.

Only convolutions and matrix products count, a multiply-add as two operations, and the bytes that they read and write:
weights as the graph stores them, inputs and outputs in 32 bits.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import onnx
import onnx_ir as ir

from pahi_rt.bench.parts import find_stages
from pahi_rt.bench.reports.table2 import COMPONENTS

if TYPE_CHECKING:
    from torch import Tensor, nn

PRODUCTS = ("Conv", "MatMul", "Gemm")
_WIDENING = ("Cast", "Mul", "DequantizeLinear", "Transpose")
FLOAT_BYTES = 4


@dataclass(frozen=True)
class Work:
    gflop: float
    """10^9 operations."""
    weights_mb: float
    """10^6 bytes."""
    activations_mb: float

    def limit_ms(self, gflop_per_s: float, gb_per_s: float) -> float:
        """The least time at these rates: to compute, or to read the weights once, whichever is longer.

        Activations may stay in caches, or, as in fused attention, never be written at all.
        """
        return 1000 * max(self.gflop / gflop_per_s, self.weights_mb / 1000 / gb_per_s)


def count_work(path: Path, batch: int = 1) -> dict[str, Work]:
    """Component of the graph in a file -> its work for a batch."""
    totals: dict[str, list[tuple[float, float, float]]] = {}
    for node, stage in find_stages(infer_shapes(path, batch)).items():
        if node.op_type in PRODUCTS:
            totals.setdefault(COMPONENTS[stage], []).append(count_node(node))
    return {name: _add_up(totals[name]) for name in COMPONENTS if name in totals}


def count_flops(module: nn.Module, arguments: list[Tensor]) -> int:
    """Operations of one call of a PyTorch module."""
    import torch
    from torch.nn.attention import SDPBackend, sdpa_kernel
    from torch.utils.flop_counter import FlopCounterMode

    counter = FlopCounterMode(display=False)
    # The counter does not know the fused attention kernels of some devices; the plain one is two matrix products.
    with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), counter:
        module(*arguments)
    return int(counter.get_total_flops())


def infer_shapes(path: Path, batch: int) -> ir.Model:
    """The graph in a file, without its weights, with every shape inferred for one size of the batch."""
    model = onnx.load(path, load_external_data=False)
    del model.graph.value_info[:]
    for value in (*model.graph.input, *model.graph.output):
        value.type.tensor_type.shape.dim[0].dim_value = batch
    return ir.from_proto(onnx.shape_inference.infer_shapes(model, data_prop=True))


def _add_up(rows: list[tuple[float, float, float]]) -> Work:
    operations, weights, activations = (sum(column) for column in zip(*rows, strict=True))
    return Work(operations / 1e9, weights / 1e6, activations / 1e6)


def count_node(node: ir.Node) -> tuple[float, float, float]:
    """Operations, bytes of weights, bytes of activations of a convolution or a matrix product."""
    result, read = node.outputs[0], [value for value in node.inputs[:2] if value is not None]
    stored = [find_stored(value) for value in read]
    activations = [result, *(value for value, tensor in zip(read, stored, strict=True) if tensor is None)]
    weights = sum(tensor.nbytes for tensor in stored if tensor is not None)
    return (
        2 * math.prod(_dims(result)) * _terms(node),
        weights,
        FLOAT_BYTES * sum(map(math.prod, map(_dims, activations))),
    )


def _terms(node: ir.Node) -> int:
    """Products that are summed for one value of the result."""
    if node.op_type == "Conv":
        return math.prod(_dims(node.inputs[1])[1:])  # channels of a group, height, width
    return _dims(node.inputs[0])[-1]  # the exporter transposes the right side alone


def find_stored(value: ir.Value) -> ir.TensorProtocol | None:
    """The stored tensor that `value` is converted or transposed from; None if it is not a constant."""
    while value.const_value is None:
        producer = value.producer()
        source = producer.inputs[0] if producer is not None and producer.op_type in _WIDENING else None
        if source is None:
            return None
        value = source
    return value.const_value


def _dims(value: ir.Value | None) -> list[int]:
    assert value is not None and value.shape is not None  # all are inferred
    return [int(size) for size in value.shape]  # type: ignore[arg-type]
