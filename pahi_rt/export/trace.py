"""From a loaded model to the graphs of one precision: round, fuse, trace, store."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack, nullcontext
from pathlib import Path
from tempfile import TemporaryDirectory

import onnx_ir as ir

from pahi_rt.export.drawing import Drawn
from pahi_rt.export.fused import PRIOR_SCOPE
from pahi_rt.export.graph import export_graph, release
from pahi_rt.export.inputs import Inputs, split_rows
from pahi_rt.export.model import Model
from pahi_rt.export.precision import ALL, half_values, halve
from pahi_rt.export.quantise import quantise
from pahi_rt.export.settings import Variant, name_file
from pahi_rt.export.stages import Stages
from pahi_rt.export.weights import WeightsFile, store_weights
from pahi_rt.manifest import Graph, TensorSpec


def round_weights(model: Model, precision: str, inputs: Inputs, steps: Sequence[int], stages: Stages) -> Drawn:
    """Round the weights of `model` as `precision` requires, in place.

    Returns what PyTorch draws with them, or with values rounded to float16 if the graph computes in it. Nothing for a
    precision that rounds nothing, or in a way that PyTorch cannot reproduce.
    """
    arithmetic = ALL[precision]
    if arithmetic.round is not None:
        with stages.run("round weights"):
            model.round(arithmetic.round)
    if not arithmetic.is_only_rounded and not arithmetic.is_halved:
        return {}
    values = half_values(model.generator) if arithmetic.is_halved else nullcontext()
    with stages.run("draw with PyTorch again"), values:
        return model.draw(inputs, steps)


def write_graphs(
    model: Model, variants: Sequence[Variant], calibration: Inputs, folder: Path, opset: int, stages: Stages
) -> tuple[Graph, ...]:
    """Write the `variants`, of one precision, into `folder`, and files of the generator's and each prior's weights.

    Leaves `model` as it is in that precision.
    """
    precision = variants[0].precision
    arithmetic = ALL[precision]
    # All are fused before any is halved: timesteps are folded in fp32.
    modules = {variant: model.fuse(variant) for variant in variants}
    if arithmetic.is_halved:
        for fused in modules.values():
            halve(fused)
    graphs = []
    with ExitStack() as files:
        weights = files.enter_context(WeightsFile(folder / name_file("weights", precision, "bin")))
        own = {k: files.enter_context(WeightsFile(folder / name_file(k, precision, "bin"))) for k in model.priors}
        for variant, fused in modules.items():
            with stages.run(f"export {variant.file}"), TemporaryDirectory(dir=folder) as scratch:
                graph = export_graph(fused, opset)
                if arithmetic.is_quantised:
                    graph = quantise(graph, split_rows(calibration), Path(scratch))
                if variant.prior in own:
                    store_weights(graph, own[variant.prior], arithmetic.pack, scope=PRIOR_SCOPE)
                store_weights(graph, weights, arithmetic.pack)
                ir.save(graph, folder / variant.file)
            graphs.append(_describe_graph(graph, variant, opset))
            release(graph.graph.initializers.values())
    return tuple(graphs)


def _describe_graph(model: ir.Model, variant: Variant, opset: int) -> Graph:
    inputs, outputs, weights = describe_tensors(model)
    return Graph(variant.file, variant.steps, variant.prior, variant.precision, inputs, outputs, opset, weights)


def describe_tensors(model: ir.Model) -> tuple[tuple[TensorSpec, ...], tuple[TensorSpec, ...], tuple[str, ...]]:
    """A graph's inputs and outputs, and the files of its weights, sorted."""
    inputs, outputs = (tuple(map(_tensor_spec, values)) for values in (model.graph.inputs, model.graph.outputs))
    stored = (value.const_value for value in model.graph.initializers.values())
    weights = sorted({str(tensor.location) for tensor in stored if isinstance(tensor, ir.ExternalTensor)})
    return inputs, outputs, tuple(weights)


def _tensor_spec(value: ir.Value) -> TensorSpec:
    assert value.name and value.dtype and value.shape  # the exporter gives all three
    sizes = tuple(size if isinstance(size, int) else str(size.value) for size in value.shape)
    return TensorSpec(value.name, value.dtype.numpy().name, sizes)
