"""Writes graphs byte by byte, as a hostile program would: the `onnx` package refuses much of what is tried here."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

FLOAT, UINT8, INT64 = 1, 2, 7
SIDE, LATENTS, TOKENS = 32, (4, 4, 4), 24
"""Those of the contract bundle."""


def varint(value: int) -> bytes:
    """Negative numbers as protobuf writes them, in ten bytes."""
    value &= 2**64 - 1
    parts = [value >> shift & 0x7F for shift in range(0, max(value.bit_length(), 1), 7)]
    return bytes(part | 0x80 for part in parts[:-1]) + bytes(parts[-1:])


def field(number: int, value: int | bytes | str) -> bytes:
    """A number, or bytes with their length."""
    if isinstance(value, int):
        return varint(number << 3) + varint(value)
    content = value.encode() if isinstance(value, str) else value
    return varint(number << 3 | 2) + varint(len(content)) + content


def tensor(name: str, dims: Sequence[int], data_type: int, content: bytes) -> bytes:
    """A TensorProto whose values are in the graph."""
    shape = b"".join(field(1, size) for size in dims)
    return shape + field(2, data_type) + field(8, name) + field(9, content)


def external(name: str, dims: Sequence[int], data_type: int, **place: str) -> bytes:
    """A TensorProto whose values are in a file; `place` is location, offset, length."""
    shape = b"".join(field(1, size) for size in dims)
    entries = b"".join(field(13, field(1, key) + field(2, value)) for key, value in place.items())
    return shape + field(2, data_type) + field(8, name) + entries + field(14, 1)


def node(op_type: str, inputs: Sequence[str], outputs: Sequence[str], extra: bytes = b"") -> bytes:
    """A NodeProto."""
    names = b"".join(field(1, name) for name in inputs) + b"".join(field(2, name) for name in outputs)
    return names + field(4, op_type) + extra


def value(name: str, elem_type: int, dims: Sequence[int | str] | None = None) -> bytes:
    """A ValueInfoProto."""
    sizes = [field(1, field(1, dim) if isinstance(dim, int) else field(2, dim)) for dim in dims or ()]
    shape = b"" if dims is None else field(2, b"".join(sizes))
    return field(1, name) + field(2, field(1, field(1, elem_type) + shape))


INPUTS = (value("input_ids", INT64, ["batch", TOKENS]), value("noise", FLOAT, ["batch", *LATENTS]))
PICTURE = value("image", UINT8)


def model(
    nodes: Sequence[bytes],
    tensors: Sequence[bytes] = (),
    *,
    inputs: Sequence[bytes] = INPUTS,
    outputs: Sequence[bytes] = (PICTURE,),
    in_graph: bytes = b"",
    in_model: bytes = b"",
) -> bytes:
    """A ModelProto; `in_graph` and `in_model` are more fields of theirs."""
    numbered = ((1, nodes), (5, tensors), (11, inputs), (12, outputs))
    graph = b"".join(field(number, part) for number, parts in numbered for part in parts)
    return field(1, 9) + field(7, graph + field(2, "g") + in_graph) + field(8, field(2, 18)) + in_model


def constant(dims: Sequence[int] = (1, SIDE, SIDE, 3)) -> bytes:
    """A graph that draws zeros of a shape, whatever it is asked for."""
    size = 1
    for dim in dims:
        size *= dim
    return model([node("Identity", ["w"], ["image"])], [tensor("w", dims, UINT8, bytes(size))])


def reading(location: str, offset: str = "0", length: str = "3072", dims: Sequence[int] = (1, SIDE, SIDE, 3)) -> bytes:
    """A graph that draws the bytes of a file."""
    place = {"location": location, "offset": offset, "length": length}
    return model([node("Identity", ["w"], ["image"])], [external("w", dims, UINT8, **place)])


def write_bundle(
    source: Path, folder: Path, graph: bytes, weights: dict[str, bytes] | None = None, **changes: Any
) -> Path:
    """A bundle with right hashes around a graph of one step; `changes` are made to the manifest of `source`."""
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copy(source / "tokenizer.json", folder)
    files = {"one-step.onnx": graph, **(weights or {})}
    for name, content in files.items():
        (folder / name).write_bytes(content)
    data = json.loads((source / "pahi.json").read_text())
    first = {**data["graphs"][0], "weights": list(weights or {})}
    data.update(graphs=[first], parity=[], vocabulary=None)
    listed = {**files, "tokenizer.json": (folder / "tokenizer.json").read_bytes()}
    data["files"] = {
        name: {"sha256": hashlib.sha256(content).hexdigest(), "size": len(content)} for name, content in listed.items()
    }
    (folder / "pahi.json").write_text(json.dumps(data | changes))
    return folder
