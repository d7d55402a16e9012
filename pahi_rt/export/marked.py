"""Graphs with tensors marked as outputs, in Polygraphy's runners, in portions that bound the memory they take."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from polygraphy.backend.onnx import ModifyOutputs
from polygraphy.backend.onnxrt import OnnxrtRunner
from polygraphy.logger import G_LOGGER

from pahi_rt.export.drawing import open_session
from pahi_rt.export.inputs import Inputs
from pahi_rt.runtimes.providers import CPU, Provider

PORTION = 256 << 20
"""Bytes of tensors that are marked at once, on each side."""
UNKNOWN = PORTION // 8
"""Bytes that a tensor of unknown shape counts as."""


def mark(path: Path, names: Sequence[str]) -> onnx.ModelProto:
    """The graph with these tensors as its outputs. Its weights stay in their files."""
    return ModifyOutputs(onnx.load(path, load_external_data=False), outputs=list(names))()


def run_marked(path: Path, names: Sequence[str], feeds: Inputs) -> dict[str, np.ndarray]:
    """These tensors, as ONNX Runtime computes them without optimisations."""
    with quiet(), make_onnxruntime(CPU, False, path, names, feeds) as runner:
        return dict(runner.infer(feeds))


def make_onnxruntime(provider: Provider, optimised: bool, path: Path, names: Sequence[str], _feeds: Inputs) -> Any:
    """ONNX Runtime on one of its providers, with these tensors of a graph as its outputs."""

    def open_marked() -> Any:
        return open_session(mark(path, names), path.parent, provider=provider, optimised=optimised)

    return OnnxrtRunner(open_marked, name=f"{provider.name}{' optimised' * optimised}")


def portions(path: Path, names: Sequence[str], feeds: Inputs) -> Iterator[list[str]]:
    """The names in portions whose tensors have at most PORTION bytes together."""
    sizes, taken, total = _sizes(path, feeds), list[str](), 0
    for name in names:
        size = sizes.get(name, UNKNOWN)
        if taken and total + size > PORTION:
            yield taken
            taken, total = [], 0
        taken.append(name)
        total += size
    if taken:
        yield taken


def _sizes(path: Path, feeds: Inputs) -> dict[str, int]:
    """Bytes of each tensor whose shape can be inferred from the inputs'."""
    model = onnx.load(path, load_external_data=False)
    for given in model.graph.input:
        shape = [onnx.TensorShapeProto.Dimension(dim_value=size) for size in feeds[given.name].shape]
        del given.type.tensor_type.shape.dim[:]
        given.type.tensor_type.shape.dim.extend(shape)
    del model.graph.value_info[:]
    del model.graph.output[:]
    inferred = onnx.shape_inference.infer_shapes(model, data_prop=True)
    return {info.name: size for info in inferred.graph.value_info if (size := _size(info)) is not None}


def _size(info: onnx.ValueInfoProto) -> int | None:
    tensor = info.type.tensor_type
    if not tensor.HasField("shape") or not all(axis.HasField("dim_value") for axis in tensor.shape.dim):
        return None
    values = math.prod(axis.dim_value for axis in tensor.shape.dim)
    return values * onnx.helper.tensor_dtype_to_np_dtype(tensor.elem_type).itemsize


@contextmanager
def quiet() -> Iterator[None]:
    """Polygraphy logs nothing inside: what is wrong, it raises. Means of 16-bit tensors, for its log, may overflow."""
    with G_LOGGER.verbosity(G_LOGGER.CRITICAL + 1), np.errstate(all="ignore"):
        yield
