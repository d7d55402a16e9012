"""weights.bin: the weights of all graphs of one precision, each stored once, where a runtime can map it into memory.

Two graphs of one model hold the same weights, and so do the steps of one graph: equal bytes are written once. The
exporter transposes and joins matrices, but it does the same to each graph, so equal weights stay equal.

A prior's weights lie in a file of their own, so that weights.bin is the same to the byte with any prior or none.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from pahi_rt.export.graph import release
from pahi_rt.export.rounding import Pack, Packed

PAGE = 4096
"""Bytes. Tensors start on a page, so that they can be mapped. Smaller ones stay in the graph's file."""


class WeightsPlace(Protocol):
    """A file beside the graph that holds tensors."""

    @property
    def path(self) -> Path: ...

    def add(self, array: NDArray[Any]) -> int:
        """The offset at which the bytes of `array` lie from now on."""
        ...


class WeightsFile:
    """Writes an external data file: little endian, each tensor on a page of its own, equal tensors once.

    A file that stays empty is removed at the end.
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
        """Write the bytes of `array` if they are new, and return the offset at which they lie."""
        content = np.ascontiguousarray(array, array.dtype.newbyteorder("<")).data.cast("B")
        key = hashlib.sha256(content).digest()
        if key not in self._offsets:
            self._file.write(bytes(-self._file.tell() % PAGE))
            self._offsets[key] = self._file.tell()
            self._file.write(content)
            self._file.flush()  # so that its size on disk is right after each graph
        return self._offsets[key]


def store_weights(model: ir.Model, weights: WeightsPlace, pack: Pack = Packed, scope: str = "") -> None:
    """Move every initializer of a page or more to `weights`, and merge equal ones.

    With `scope`, move only tensors read solely by the module of that name. Tensors already stored are left alone.

    Nodes widen what `pack` stores in fewer bits. Runtimes compute them once at load: the arithmetic is unchanged.
    """
    stored: dict[object, ir.Value] = {}
    for name, value in list(model.graph.initializers.items()):
        tensor = value.const_value
        if tensor is None or isinstance(tensor, ir.ExternalTensor) or tensor.nbytes < PAGE:
            continue
        if not _is_inside(value, scope):
            continue
        packed = pack(tensor.numpy())
        offset = weights.add(packed.array)
        del model.graph.initializers[name]
        # The same bytes may have two shapes: zeros as a bias [C], and as one made ready for a picture, [C, 1, 1].
        kind = (offset, value.dtype, packed.array.shape, b"" if packed.scale is None else packed.scale.tobytes())
        if kind not in stored:
            stored[kind] = _refer(model.graph, value, packed, offset, weights.path)
        ir.convenience.replace_all_uses_with(value, stored[kind])
        release([value])


def _is_inside(value: ir.Value, scope: str) -> bool:
    names = [str(node.name) for node, _ in value.uses()]
    return not scope or (bool(names) and all(name.startswith((f"{scope}.", f"{scope}/")) for name in names))


def _refer(graph: ir.Graph, value: ir.Value, packed: Packed, offset: int, path: Path) -> ir.Value:
    """Add an initializer at `offset` of the file, widened if need be, and return what replaces `value`."""
    array, name = packed.array, str(value.name)
    dtype, shape = ir.DataType.from_numpy(array.dtype), ir.Shape(array.shape)
    found = _initializer(
        graph, ir.ExternalTensor(path.name, offset, array.nbytes, dtype, shape=shape, name=name, base_dir=path.parent)
    )
    if dtype != value.dtype:
        found = _insert(graph, "Cast", [found], {"to": ir.DataType.FLOAT}, f"{name}.float32")
    if packed.scale is not None:
        scale = _initializer(graph, ir.tensor(packed.scale, name=f"{name}.scale"))
        found = _insert(graph, "Mul", [found, scale], {}, f"{name}.scaled")
    return found


def _initializer(graph: ir.Graph, tensor: ir.TensorProtocol) -> ir.Value:
    shape = ir.Shape(tensor.numpy().shape)
    value = ir.Value(name=tensor.name, type=ir.TensorType(tensor.dtype), shape=shape, const_value=tensor)
    graph.register_initializer(value)
    return value


def _insert(graph: ir.Graph, op: str, inputs: list[ir.Value], attributes: dict[str, Any], name: str) -> ir.Value:
    """Insert a node on constants before everything that may read it, and return its float32 result, called `name`."""
    result = ir.Value(name=name, type=ir.TensorType(ir.DataType.FLOAT), shape=inputs[0].shape)
    node = ir.node(op, inputs, attributes, outputs=[result], name=f"{inputs[0].name}/{op}")
    previous = inputs[0].producer()
    if previous is None:
        graph.insert_before(graph[0], node)
    else:
        graph.insert_after(previous, node)
    return result
