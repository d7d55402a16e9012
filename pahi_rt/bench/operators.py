"""pahi-rt bench operators BUNDLE: what the nodes of a graph are, what they compute and move, and what they take here.

The graph is counted as it was exported: nodes, operations of convolutions and matrix products, and bytes that all nodes
read and write. A node is "small" if a GPU does its work in less time than it takes to start it. ONNX Runtime's profiler
then says how many kernels are left when it has optimised the graph, and what they take on this machine's CPU: the sum
over a picture's kernels, median over pictures. The profiler itself takes some microseconds for each kernel.

Beside it stands the roofline: for each node the longer of its operations at the rate of one large product and its bytes
at the rate of copies in memory. Values that are still in a cache can be faster, and a Reshape need not move its bytes.
"""

from __future__ import annotations

import json
import math
import statistics
import tempfile
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnx_ir as ir

from pahi_rt.bench import machine
from pahi_rt.bench.derived import Feeds, Inputs
from pahi_rt.bench.limits import measure_limits
from pahi_rt.bench.parts import find_stages
from pahi_rt.bench.reports.operators import Kind, OperatorsReport
from pahi_rt.bench.reports.report import Limits
from pahi_rt.bench.work import PRODUCTS, count_node, find_stored, infer_shapes
from pahi_rt.bundle import open_bundle
from pahi_rt.machine import usable_cores
from pahi_rt.manifest import GAUSSIAN
from pahi_rt.runtimes.onnxruntime import require_onnxruntime, session_options

EIGHT_BITS, PRODUCT, ATTENTION = "8-bit products", "32-bit products", "attention"
CONVERSION, NORM, ACTIVATION = "quantise, dequantise", "norms", "activations"
ELEMENTWISE, LAYOUT, SHAPE = "elementwise", "layout", "shapes"
KINDS = (PRODUCT, EIGHT_BITS, CONVERSION, ATTENTION, NORM, ACTIVATION, ELEMENTWISE, LAYOUT, SHAPE)
_OPERATORS = {
    EIGHT_BITS: "QLinearConv QLinearMatMul QGemm MatMulInteger MatMulIntegerToFloat ConvInteger DynamicQuantizeMatMul",
    PRODUCT: "Conv FusedConv MatMul FusedMatMul Gemm FusedGemm",
    CONVERSION: "QuantizeLinear DequantizeLinear DynamicQuantizeLinear",
    ATTENTION: "Softmax QLinearSoftmax Attention MultiHeadAttention",
    NORM: "InstanceNormalization LayerNormalization GroupNormalization GroupNorm SkipLayerNormalization"
    " SkipGroupNorm RMSNormalization",
    ACTIVATION: "Sigmoid QLinearSigmoid QuickGelu Gelu FastGelu BiasGelu Relu Tanh LeakyRelu",
    LAYOUT: "Reshape Transpose ReorderInput ReorderOutput Concat Slice Split Resize Upsample Gather GatherND Expand"
    " Squeeze Unsqueeze Flatten Pad QLinearConcat",
}
_KIND_OF = {operator: kind for kind, operators in _OPERATORS.items() for operator in operators.split()}
STARTING_US = 3.0
"""Microseconds that a GPU takes to start a kernel of a CUDA graph, about."""
GPU_TFLOP_PER_S, GPU_GB_PER_S = 724.0, 3970.0
"""What an NVIDIA H200 attains in one large product of float16 and in copies (bench/results/nvidia-h200)."""


@dataclass(frozen=True)
class Operator:
    """One node of a graph as it was exported."""

    kind: str
    component: int
    """Index into COMPONENTS."""
    gflop: float
    megabytes: float
    """What it reads and writes."""

    @property
    def is_small(self) -> bool:
        """Whether a GPU does it in less time than it takes to start it."""
        return self._least_ms(1e3 * GPU_TFLOP_PER_S, GPU_GB_PER_S) * 1e3 < STARTING_US

    def roofline_ms(self, limits: Limits) -> float:
        """Milliseconds that it needs on a CPU at the least."""
        rate = limits.int8_gop_per_s if self.kind == EIGHT_BITS else limits.fp32_gflop_per_s
        return self._least_ms(rate, limits.copy_gb_per_s)

    def _least_ms(self, gflop_per_s: float, gb_per_s: float) -> float:
        return max(1e3 * self.gflop / gflop_per_s, self.megabytes / gb_per_s)


def measure(source: str, precision: str | None, steps: int, pictures: int, force: bool = False) -> OperatorsReport:
    """The whole report, for the bundle's default prior.

    Raises PahiError for a busy machine, and BundleError for what the bundle lacks.
    """
    busy, environment = machine.check_idle(force), machine.describe()
    bundle = open_bundle(source)
    graph = bundle.graph(steps, next(iter(bundle.priors), GAUSSIAN), precision)
    path, inputs = bundle.file(graph.file), Inputs(bundle)
    feeds = [{spec.name: inputs(number)[spec.name] for spec in graph.inputs} for number in range(pictures)]
    limits = measure_limits(usable_cores())
    counted, kernels = count(path), profile(path, feeds)
    return OperatorsReport(
        command=machine.command(),
        machine=environment,
        busy=busy,
        bundle=bundle.manifest.name,
        precision=graph.precision,
        steps=steps,
        limits=limits,
        kinds={kind: _sum_up(kind, counted, kernels, limits) for kind in KINDS},
    )


def _sum_up(kind: str, counted: Sequence[Operator], kernels: Mapping[str, Sequence[float]], limits: Limits) -> Kind:
    own = [operator for operator in counted if operator.kind == kind]
    taken = kernels.get(kind, ())
    return Kind(
        nodes=len(own),
        small=sum(operator.is_small for operator in own),
        gflop=round(math.fsum(operator.gflop for operator in own), 3),
        megabytes=round(math.fsum(operator.megabytes for operator in own), 2),
        roofline_ms=round(math.fsum(operator.roofline_ms(limits) for operator in own), 3),
        kernels=len(taken),
        ms=round(math.fsum(taken), 3),
    )


def count(path: Path, batch: int = 1) -> list[Operator]:
    """Every node of the graph in a file that depends on its inputs, in order."""
    stages = find_stages(infer_shapes(path, batch))
    return [count_one(node, stage) for node, stage in reversed(stages.items())]


def count_one(node: ir.Node, stage: int) -> Operator:
    """A node of the component `stage`, whose shapes are known."""
    values = [value for value in (*node.inputs, *node.outputs) if value is not None]
    is_weighted = len(node.inputs) > 1 and node.inputs[1] is not None and find_stored(node.inputs[1]) is not None
    kind = find_kind(node.op_type, is_weighted)
    if kind in (ELEMENTWISE, LAYOUT) and not any(_is_float(value) for value in node.outputs):
        kind = SHAPE
    if kind == PRODUCT and _is_quantised(node.inputs[1]):
        kind = EIGHT_BITS
    operations = count_node(node)[0] if node.op_type in PRODUCTS else 0
    return Operator(kind, stage, operations / 1e9, sum(map(_size, values)) / 1e6)


def find_kind(operator: str, is_weighted: bool) -> str:
    """The kind of an operator; a product of two activations belongs to attention."""
    kind = SHAPE if operator == "Shape" else _KIND_OF.get(operator, ELEMENTWISE)
    return ATTENTION if kind == PRODUCT and not is_weighted else kind


def _is_quantised(weight: ir.Value | None) -> bool:
    producer = None if weight is None else weight.producer()
    return producer is not None and producer.op_type == "DequantizeLinear"


def _is_float(value: ir.Value) -> bool:
    return value.dtype is None or value.dtype.is_floating_point() or value.dtype == ir.DataType.UINT8


def _size(value: ir.Value) -> float:
    """Bytes of a value; 0 where its shape is not known."""
    sizes = [] if value.shape is None else [size for size in value.shape if isinstance(size, int)]
    if value.shape is None or value.dtype is None or len(sizes) < len(value.shape):
        return 0
    return math.prod(sizes) * value.dtype.itemsize


def profile(path: Path, feeds: Sequence[Feeds]) -> dict[str, list[float]]:
    """Kind -> milliseconds of each kernel that ONNX Runtime runs for a picture, median over those of `feeds`."""
    with tempfile.TemporaryDirectory() as folder:
        options = session_options()
        options.enable_profiling, options.profile_file_prefix = True, str(Path(folder) / "profile")
        session = require_onnxruntime().InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        session.run(None, feeds[0])
        for each in feeds:
            session.run(None, each)
        events = json.loads(Path(session.end_profiling()).read_bytes())
    return _group(event for event in events if event["cat"] == "Node" and event["name"].endswith("_kernel_time"))


def _group(events: Iterable[Mapping[str, Any]]) -> dict[str, list[float]]:
    """Medians by kind. A kernel has the same node_index in each picture; the first picture warms up."""
    taken: defaultdict[str, list[float]] = defaultdict(list)
    kinds: dict[str, str] = {}
    seen = Counter[str]()
    for event in events:
        arguments = event["args"]
        node = arguments["node_index"]
        kinds[node] = _kind_of_kernel(arguments)
        if seen[node]:
            taken[node].append(event["dur"] / 1000)
        seen[node] += 1
    grouped: defaultdict[str, list[float]] = defaultdict(list)
    for node, values in taken.items():
        grouped[kinds[node]].append(statistics.median(values))
    return dict(grouped)


def _kind_of_kernel(arguments: Mapping[str, Any]) -> str:
    # Weights that were laid out at load are not listed among the inputs.
    is_weighted = int(arguments["parameter_size"]) > 0 or len(arguments["input_type_shape"]) == 1
    kind = find_kind(arguments["op_name"], is_weighted)
    written = [name for output in arguments["output_type_shape"] for name in output]
    is_shape = kind in (ELEMENTWISE, LAYOUT) and not {"float", "float16", "uint8", "int8"} & set(written)
    return SHAPE if is_shape else kind
