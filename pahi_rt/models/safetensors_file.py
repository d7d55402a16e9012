"""Where the tensors of a safetensors file lie in it: plain bytes at offsets, after a header in JSON."""

from __future__ import annotations

import json
from typing import Any, NamedTuple

_HEAD = 8
"""Bytes that hold the length of the header."""


class Place(NamedTuple):
    """The bytes of a tensor: content[start:end]."""

    start: int
    end: int
    shape: tuple[int, ...]


def list_places(content: bytes) -> list[Place]:
    """The places of all tensors in a safetensors file, in the order of their bytes, the first one after the header."""
    base = _HEAD + int.from_bytes(content[:_HEAD], "little")
    header: dict[str, Any] = json.loads(content[_HEAD:base])
    tensors = [entry for name, entry in header.items() if name != "__metadata__"]
    places = ((entry["data_offsets"], tuple(entry["shape"])) for entry in tensors)
    return sorted(Place(base + first, base + last, shape) for (first, last), shape in places)
