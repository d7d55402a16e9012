"""Weights that a graph reads where they lie already: in a safetensors file, whose tensors are plain bytes at offsets.

Then a scorer's weights are stored once, for PyTorch and for its graph.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from pahi_rt.errors import ScorerError
from pahi_rt.export.rounding import Pack
from pahi_rt.export.weights import PAGE
from pahi_rt.models.safetensors_file import list_places


class FoundWeights:
    """The tensors of a safetensors file, found by their bytes."""

    def __init__(self, path: Path) -> None:
        self.path = path
        content = path.read_bytes()
        self._offsets = {_digest(content[place.start : place.end]): place.start for place in list_places(content)}

    def __contains__(self, array: NDArray[Any]) -> bool:
        return _digest(array.tobytes()) in self._offsets

    def add(self, array: NDArray[Any]) -> int:
        """The offset at which the bytes of `array` lie. Raises ScorerError if they are not there."""
        if array not in self:
            what = f"{self.path} does not hold a matrix {list(array.shape)} of {array.dtype} that the graph has"
            raise ScorerError(what, fix="export without naming a file of weights, so that a new one is written")
        return self._offsets[_digest(array.tobytes())]


def restore_transposed(model: ir.Model, weights: FoundWeights, pack: Pack) -> None:
    """Turn back matrices that the exporter has transposed, where `weights` has them as they were."""
    graph = model.graph
    for value in list(graph.initializers.values()):
        array = None if value.const_value is None else value.const_value.numpy()
        if array is None or array.ndim != 2 or array.nbytes < PAGE or pack(array).array in weights:
            continue
        turned = np.ascontiguousarray(array.T)
        if pack(turned).array in weights:
            _turn(graph, value, turned)


def _turn(graph: ir.Graph, value: ir.Value, turned: NDArray[Any]) -> None:
    name = f"{value.name}.turned"
    tensor = ir.tensor(turned, name=name)
    source = ir.Value(name=name, type=ir.TensorType(tensor.dtype), shape=ir.Shape(turned.shape), const_value=tensor)
    graph.register_initializer(source)
    result = ir.Value(name=f"{value.name}.again", type=ir.TensorType(tensor.dtype), shape=value.shape)
    node = ir.node("Transpose", [source], {"perm": [1, 0]}, outputs=[result], name=f"{name}/Transpose")
    graph.insert_before(graph[0], node)
    ir.convenience.replace_all_uses_with(value, result)
    graph.initializers.pop(str(value.name))


def _digest(content: bytes) -> bytes:
    return hashlib.sha256(content).digest()
