"""weights.bin: the weights of all graphs of one precision, each stored once, where a runtime can map it into memory.

Two graphs of one model hold the same weights, and so do the steps of one graph: whatever has the same bytes is
written once. The exporter transposes and joins matrices, but it does the same to each graph, so equal weights stay
equal.

A prior's weights lie in a file of their own: weights.bin is the same to the byte with a prior, without one, and with
the next one.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

PAGE = 4096
"""Bytes. Tensors start on a page, so that they can be mapped; those that do not fill one stay in the graph's file."""


class WeightsFile:
    """An external data file being written: little endian, every tensor on a page of its own, equal tensors once.

    A file in which nothing was written is removed at the end.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file = path.open("wb")
        self._offsets: dict[bytes, int] = {}

    def __enter__(self) -> WeightsFile:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()
        if not self._offsets:
            self.path.unlink()

    def add(self, array: NDArray[Any]) -> int:
        """The offset at which the bytes of `array` lie, after writing them if they are new."""
        content = np.ascontiguousarray(array, array.dtype.newbyteorder("<")).data.cast("B")
        key = hashlib.sha256(content).digest()
        if key not in self._offsets:
            self._file.write(bytes(-self._file.tell() % PAGE))
            self._offsets[key] = self._file.tell()
            self._file.write(content)
            self._file.flush()  # so that its size on disk is right after each graph
        return self._offsets[key]


def store_weights(model: ir.Model, weights: WeightsFile, compact: bool = False, scope: str = "") -> None:
    """Move every initializer of a page or more to `weights`, and let equal ones be one.

    With a `scope` only those that none but nodes of the module of that name read; those that lie in a file already
    stay there.

    `compact` stores matrices of float32 that lose nothing by it as float16, and has a node cast them back, which
    runtimes compute once at load: the arithmetic stays float32.
    """
    stored: dict[object, ir.Value] = {}
    for name, value in list(model.graph.initializers.items()):
        tensor = value.const_value
        if tensor is None or isinstance(tensor, ir.ExternalTensor) or tensor.nbytes < PAGE:
            continue
        if not _is_inside(value, scope):
            continue
        array = _compact(tensor.numpy()) if compact else tensor.numpy()
        offset = weights.add(array)
        del model.graph.initializers[name]
        # Zeros are the same bytes as a bias [C] and as one made ready for a picture, [C, 1, 1].
        kind = (offset, value.dtype, array.shape)
        if kind not in stored:
            stored[kind] = _refer(model.graph, value, array, offset, weights.path)
        ir.convenience.replace_all_uses_with(value, stored[kind])


def _is_inside(value: ir.Value, scope: str) -> bool:
    names = [str(node.name) for node, _ in value.uses()]
    return not scope or (bool(names) and all(name.startswith((f"{scope}.", f"{scope}/")) for name in names))


def _compact(array: NDArray[Any]) -> NDArray[Any]:
    if array.dtype != np.float32 or array.ndim < 2:
        return array
    with np.errstate(over="ignore"):
        half = array.astype(np.float16)
    return half if np.array_equal(half, array) else array


def _refer(graph: ir.Graph, value: ir.Value, array: NDArray[Any], offset: int, path: Path) -> ir.Value:
    """A new initializer for `array` at `offset` of the file; what takes the place of `value` in the graph."""
    dtype, shape = ir.DataType.from_numpy(array.dtype), ir.Shape(array.shape)
    tensor = ir.ExternalTensor(
        path.name, offset, array.nbytes, dtype, shape=shape, name=str(value.name), base_dir=path.parent
    )
    initializer = ir.Value(name=value.name, type=ir.TensorType(dtype), shape=shape, const_value=tensor)
    graph.register_initializer(initializer)
    if dtype == value.dtype:
        return initializer
    widened = ir.Value(name=f"{value.name}.float32", type=value.type, shape=shape)
    cast = ir.node("Cast", [initializer], {"to": ir.DataType.FLOAT}, outputs=[widened], name=f"{value.name}/Cast")
    graph.insert_before(graph[0], cast)
    return widened
