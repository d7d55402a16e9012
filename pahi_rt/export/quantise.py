"""Lets a graph's convolutions and matrix products compute in 8 bits: inputs and weights have 256 levels, sums 32 bits.

    DequantizeLinear -> Conv -> QuantizeLinear

is how ONNX writes it, and what ONNX Runtime and OpenVINO turn into 8-bit kernels (Jacob et al. 2018). Weights have a
scale for each output channel. Every other tensor has one range, from the least to the largest value that occurs while
the graph draws the calibration's prompts.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
from onnx import external_data_helper, helper
from onnxruntime.quantization import CalibrationMethod, QDQQuantizer, QuantType, TensorData, TensorsData

from pahi_rt.export.drawing import open_session
from pahi_rt.export.inputs import Inputs

QUANTISED = ("Conv", "MatMul", "Gemm")
PARTS = ("unets.", "decoder.")
"""Parts that are quantised. The text encoder and the prior take little time, and everything else starts from them."""
SENSITIVE = re.compile(r"conv_in/|down_blocks\.0\.|attn2\.to_[kv]/")
"""Nodes that stay as they were, chosen by measuring each node alone (docs/runtimes.md): the first to read the noise,
the UNet's whole first level, and the few products that read the prompt."""


def quantise(model: ir.Model, calibration: Iterable[Inputs], scratch: Path) -> ir.Model:
    """Quantise a graph; `calibration` holds inputs of one picture each, and `scratch` is an empty folder.

    Weights that stay as they are lie in `scratch` afterwards, and are read from there when they are needed.
    """
    path = scratch / "float.onnx"
    ir.save(model, path, external_data="float.bin")
    proto = onnx.load(path, load_external_data=False)
    nodes = choose_nodes(proto.graph)
    ranges = measure_ranges(proto, nodes, calibration, scratch)
    load_weights(proto.graph, {name for node in nodes for name in node.input}, scratch)
    return _read(rewrite(proto, nodes, ranges), scratch)


def rewrite(model: onnx.ModelProto, nodes: Sequence[onnx.NodeProto], ranges: TensorsData) -> onnx.ModelProto:
    """Put the conversions to 8 bits and back around `nodes`, in place; `model` must hold their weights."""
    # Without it, the quantizer would write the model with all its weights, and read it again, to infer known shapes.
    helper.set_model_props(model, {"onnx.infer": "onnxruntime.quant"})
    quantizer = QDQQuantizer(
        model,
        per_channel=True,
        # Weights of 7 bits: CPUs without VNNI add two products in 16 bits, and larger ones would not fit.
        reduce_range=True,
        weight_qType=QuantType.QInt8,
        activation_qType=QuantType.QUInt8,
        tensors_range=ranges,
        nodes_to_quantize=[node.name for node in nodes],
        nodes_to_exclude=[],
        op_types_to_quantize=list(QUANTISED),
        extra_options={},
    )
    quantizer.quantize_model()
    quantizer.model.topological_sort()  # it appends nodes after those that read them
    rewritten: onnx.ModelProto = quantizer.model.model
    return rewritten


def choose_nodes(graph: onnx.GraphProto) -> list[onnx.NodeProto]:
    """The nodes to quantise."""
    return [node for node in list_nodes(graph) if node.name.startswith(PARTS) and not SENSITIVE.search(node.name)]


def list_nodes(graph: onnx.GraphProto) -> list[onnx.NodeProto]:
    """The nodes that can be quantised. Products of activations alone, as in attention, are not among them."""
    weights = {tensor.name for tensor in graph.initializer}
    return [node for node in graph.node if node.op_type in QUANTISED and node.input[1] in weights]


def measure_ranges(
    model: onnx.ModelProto, nodes: Sequence[onnx.NodeProto], calibration: Iterable[Inputs], folder: Path
) -> TensorsData:
    """Least and largest values of what `nodes` read and write, over all of `calibration`."""
    names = sorted({name for node in nodes for name in (node.input[0], node.output[0])})
    session = open_session(_with_extremes(model, names), folder)
    outputs = [f"{name}.{end}" for name in names for end in ("min", "max")]
    seen = np.array([session.run(outputs, inputs) for inputs in calibration], np.float32).reshape(-1, len(names), 2)
    least, most = seen[..., 0].min(0), seen[..., 1].max(0)
    return TensorsData(
        CalibrationMethod.MinMax,
        {name: TensorData(lowest=low, highest=high) for name, low, high in zip(names, least, most, strict=True)},
    )


def _with_extremes(model: onnx.ModelProto, names: Sequence[str]) -> onnx.ModelProto:
    """A copy of `model` with the outputs NAME.min and NAME.max for each name."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    for name in names:
        for end, op in (("min", "ReduceMin"), ("max", "ReduceMax")):
            copy.graph.node.append(helper.make_node(op, [name], [f"{name}.{end}"], keepdims=0))
            copy.graph.output.append(helper.make_tensor_value_info(f"{name}.{end}", onnx.TensorProto.FLOAT, []))
    return copy


def load_weights(graph: onnx.GraphProto, needed: Collection[str], folder: Path) -> None:
    """Load the weights of these names, and no others, which are gigabytes in an SD-Turbo."""
    for tensor in graph.initializer:
        if tensor.name in needed and external_data_helper.uses_external_data(tensor):
            external_data_helper.load_external_data_for_tensor(tensor, str(folder))
            tensor.data_location = onnx.TensorProto.DEFAULT
            del tensor.external_data[:]


def _read(proto: onnx.ModelProto, folder: Path) -> ir.Model:
    """Convert to onnx_ir, with external weights memory-mapped."""
    model = ir.from_proto(proto)
    ir.external_data.set_base_dir(model.graph, folder)
    for value in model.graph.initializers.values():
        if isinstance(value.const_value, ir.ExternalTensor):
            value.const_value = ir.tensor(value.const_value.numpy(), name=value.name)
    return model
