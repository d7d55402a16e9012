"""Exports a fused generator as an ONNX graph, checks it, and tidies it so that a person can read it."""

from __future__ import annotations

import ast
import contextlib
import io
import logging
import warnings
from collections import Counter
from collections.abc import Iterable, Iterator

import numpy as np
import onnx_ir as ir
import torch
from onnx_ir.passes.common import ClearMetadataAndDocStringPass
from torch import Tensor, nn

from pahi_rt.errors import PahiError
from pahi_rt.export.fused import MAX_BATCH, OUTPUT, Fused
from pahi_rt.export.shapes import add_constant, fix_shapes

PORTABLE_OPSET = 20
"""ONNX Runtime, OpenVINO and TensorRT all read it. 23 has Attention and GroupNormalization as single nodes."""
OPSETS = range(20, 24)


def export_graph(fused: Fused, opset: int = PORTABLE_OPSET) -> ir.Model:
    """Export `fused` as a graph with a dynamic batch of 1 to 64, its weights still in memory.

    Raises PahiError for an opset out of 20..23, or if the time embedding is still computed in the graph.
    """
    model = export_module(fused, fused.example_inputs(), OUTPUT, opset)
    check_time_is_folded(model)
    return model


def export_module(module: nn.Module, examples: dict[str, Tensor], output: str, opset: int = PORTABLE_OPSET) -> ir.Model:
    """Export any module whose forward takes `examples`, each with the batch as its first axis, and gives one `output`.

    Raises PahiError for an opset out of 20..23.
    """
    check_opset(opset)
    model = _trace(module, examples, output, opset)
    fold_transposes(model.graph)
    fix_shapes(model)
    _name_nodes(model.graph)
    # Stack traces of the machine that exported would be most of the file.
    ClearMetadataAndDocStringPass()(model)
    for value in model.graph.initializers.values():
        value.metadata_props.clear()
    return model


def check_opset(opset: int) -> None:
    """Raises PahiError for an opset out of 20..23."""
    if opset not in OPSETS:
        raise PahiError(f"opset {opset} is not supported", fix=f"use {OPSETS[0]} (portable) to {OPSETS[-1]}")


def release(values: Iterable[ir.Value]) -> None:
    """Free weights: dropping the graph is not enough, since the optimiser's rules keep the last one they have seen."""
    for value in values:
        value.const_value = None


def check_time_is_folded(model: ir.Model) -> None:
    """Raises PahiError if a sine or cosine is left: only the embedding of a timestep has them."""
    left = [node.name for node in model.graph if node.op_type in ("Sin", "Cos")]
    if left:
        raise PahiError(
            f"the time embedding is still computed in the graph: {', '.join(map(str, left))}",
            fix="export a model whose UNet uses its timestep in ResnetBlock2D only",
        )


def _trace(module: nn.Module, examples: dict[str, Tensor], output: str, opset: int) -> ir.Model:
    # diffusers' Upsample2D branches at 64, with the same result. With 64 in the range, PyTorch traces, refuses, takes
    # 64 out by itself, and traces again.
    batch = torch.export.Dim("batch", min=1, max=MAX_BATCH - 1)
    with silence():
        program = torch.onnx.export(
            module.eval(),
            kwargs=examples,
            input_names=list(examples),
            output_names=[output],
            opset_version=opset,
            dynamic_shapes={name: {0: batch} for name in examples},
            dynamo=True,
            verbose=False,
        )
        assert program is not None  # only the old exporter returns None
    return program.model


@contextlib.contextmanager
def silence() -> Iterator[None]:
    """Silence the exporter, which prints to stdout, the place of our results, and warns about its own internals."""
    disabled = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(disabled)


def fold_transposes(graph: ir.Graph) -> None:
    """Replace transpositions of constant matrices by their results.

    The exporter does it for matrices that one node reads, but not for those that the steps of a graph share. The same
    weight would lie in weights.bin twice, once for each number of steps.
    """
    folded: dict[tuple[ir.Value, tuple[int, ...]], ir.Value] = {}
    for node in list(graph):
        source = node.inputs[0] if node.op_type == "Transpose" else None
        if source is None or source.const_value is None:
            continue
        array = source.const_value.numpy()
        order = tuple(node.attributes.get_ints("perm", range(array.ndim)[::-1]))
        if (source, order) not in folded:
            folded[source, order] = add_constant(graph, f"{source.name}.transposed", np.transpose(array, order))
        ir.convenience.replace_all_uses_with(node.outputs[0], folded[source, order])
        graph.remove(node, safe=True)
        if not source.uses():
            graph.initializers.pop(str(source.name))


def _name_nodes(graph: ir.Graph) -> None:
    """Name each node by the module that it came from: unets.0.mid_block.resnets.0.conv1/Conv."""
    seen: Counter[str] = Counter()
    for node in graph:
        scopes = ast.literal_eval(node.metadata_props.get("pkg.torch.onnx.name_scopes", "[]"))
        name = "/".join([scope for scope in scopes[:-1] if scope][-1:] + [node.op_type])
        seen[name] += 1
        node.name = name if seen[name] == 1 else f"{name}_{seen[name]}"
