"""A graph with one output more: its pictures before they are rounded to 256 levels.

Rounding hides a difference in the last bit of a float in all but about one value of 100,000. Whether two ways to draw
agree to the byte for every prompt is therefore asked of the values that are rounded, where no difference hides.
"""

from __future__ import annotations

from collections.abc import Iterator

from pahi_rt.graphs import MAX_FIELDS
from pahi_rt.wire import BYTES, EIGHT_BYTES, FOUR_BYTES, NUMBER, Wire, message, tag

_GRAPH, _NODE, _INPUT, _OP_TYPE, _OUTPUT, _NAME = tag(7), tag(1), tag(1), tag(4), tag(12), tag(1)
"""Fields of onnx.proto: a model's graph; a graph's node; a node's input and operator; a graph's output; its name."""
_KINDS = (NUMBER, EIGHT_BYTES, BYTES, FOUR_BYTES)
_ROUND = b"Round"


# The graph was checked before, so every field is passed over that does not matter here.
_ANYTHING = message("a graph", once=[], repeated=[tag(field, kind) for field in range(1, 32) for kind in _KINDS])


def expose_unrounded(content: bytes) -> tuple[str, bytes] | None:
    """The name of the values that a checked graph rounds last, and the graph with them as an output.

    None if it does not round.
    """
    name = None
    for start, end in _spans(content, 0, len(content), _GRAPH):
        for first, last in _spans(content, start, end, _NODE):
            if _ROUND in (content[a:b] for a, b in _spans(content, first, last, _OP_TYPE)):
                name = next(content[a:b] for a, b in _spans(content, first, last, _INPUT))
    if name is None:
        return None
    # By protobuf's rules the fields of a second graph are added to those of the first.
    output = _field(_GRAPH, _field(_OUTPUT, _field(_NAME, name)))
    return name.decode(), content + output


def _spans(content: bytes, start: int, end: int, wanted: int) -> Iterator[tuple[int, int]]:
    for found, first, last in Wire(content, MAX_FIELDS).fields(start, end, _ANYTHING):
        if found == wanted:
            yield first, last


def _field(field: int, value: bytes) -> bytes:
    length, size = bytearray(), len(value)
    while size > 0x7F:
        length.append(size & 0x7F | 0x80)
        size >>= 7
    return bytes([field, *length, size]) + value
