"""Checks of a bundle's ONNX graph. A graph may come from a stranger, so it is checked before any runtime sees it.

Runtimes do much that a graph may ask for: open any file, read memory addresses, call functions that call themselves,
run loops without end, read formats of their own. Our exports need none of these. Everything that they do not contain is
refused: other fields, operators of other domains, graphs inside nodes, and data outside the files that the manifest
lists.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from itertools import chain
from pathlib import PurePosixPath

from pahi_rt.errors import BundleError
from pahi_rt.manifest import OnnxFile, TensorSpec
from pahi_rt.record import FIX
from pahi_rt.wire import EIGHT_BYTES, FOUR_BYTES, NUMBER, Malformed, Message, Wire, message, tag

MAX_NODES = 100_000
"""Full SDXL in four steps has about 20,000."""
MAX_INITIALIZERS = 100_000
MAX_FIELDS = 4_000_000
"""Protobuf fields of all messages: a hundred times as many as in the graphs of the built-in bundle."""
MAX_DIMENSIONS = 16
MAX_TENSOR = 1 << 33
"""Bytes of a tensor."""

# Messages and fields of https://github.com/onnx/onnx/blob/main/onnx/onnx.proto, without those that are refused.
_GRAPH_OF_MODEL, _OPSET_OF_MODEL = tag(7), tag(8)
_MODEL = message(  # ir_version, producer_name, producer_version, domain, model_version, doc_string, graph
    "the model",
    once=[tag(1, NUMBER), tag(2), tag(3), tag(4), tag(5, NUMBER), tag(6), _GRAPH_OF_MODEL],
    repeated=[_OPSET_OF_MODEL, tag(14)],  # opset_import, metadata_props
)
_OPSET = message("an opset", once=[tag(1), tag(2, NUMBER)])  # domain, version
_NODE_OF_GRAPH, _INITIALIZER, _INPUT, _OUTPUT = tag(1), tag(5), tag(11), tag(12)
_GRAPH = message(  # name, doc_string
    "the graph",
    once=[tag(2), tag(10)],
    repeated=[_NODE_OF_GRAPH, _INITIALIZER, _INPUT, _OUTPUT, tag(13), tag(16)],  # ..., value_info, metadata_props
)
_ATTRIBUTE_OF_NODE, _DOMAIN = tag(5), tag(7)
_NODE = message(  # name, op_type, doc_string, domain
    "a node",
    once=[tag(3), tag(4), tag(6), _DOMAIN],
    repeated=[tag(1), tag(2), _ATTRIBUTE_OF_NODE, tag(9)],  # input, output, attribute, metadata_props
)
_TENSOR_OF_ATTRIBUTE, _TYPE_OF_ATTRIBUTE = tag(5), tag(20, NUMBER)
_ATTRIBUTE = message(  # name, f, i, s, t, doc_string, type
    "an attribute",
    once=[tag(1), tag(2, FOUR_BYTES), tag(3, NUMBER), tag(4), _TENSOR_OF_ATTRIBUTE, tag(13), _TYPE_OF_ATTRIBUTE],
    repeated=[tag(7, FOUR_BYTES), tag(7), tag(8, NUMBER), tag(8), tag(9)],  # floats, ints, strings
)
_DIM, _DIMS, _DATA_TYPE, _RAW_DATA, _EXTERNAL_DATA, _DATA_LOCATION = (
    tag(1, NUMBER), tag(1), tag(2, NUMBER), tag(9), tag(13), tag(14, NUMBER),
)  # fmt: skip
_TYPED_DATA = (  # float_data, int32_data, int64_data, double_data, uint64_data
    *(tag(4, FOUR_BYTES), tag(4), tag(5, NUMBER), tag(5), tag(7, NUMBER), tag(7)),
    *(tag(10, EIGHT_BYTES), tag(10), tag(11, NUMBER), tag(11)),
)
_TENSOR = message(  # data_type, data_location, name, raw_data, doc_string
    "a tensor",
    once=[_DATA_TYPE, _DATA_LOCATION, tag(8), _RAW_DATA, tag(12)],
    repeated=[_DIM, _DIMS, *_TYPED_DATA, _EXTERNAL_DATA, tag(16)],  # ..., metadata_props
)
_ENTRY = message("a tensor's place", once=[tag(1), tag(2)])  # key, value
_NAME, _TYPE_OF_VALUE = tag(1), tag(2)
_VALUE = message(  # ..., doc_string; metadata_props
    "an input or output",
    once=[_NAME, _TYPE_OF_VALUE, tag(3)],
    repeated=[tag(4)],
)
_TYPE = message("a type", once=[tag(1), tag(6)])  # tensor_type, denotation
_ELEM_TYPE, _SHAPE_OF_TYPE = tag(1, NUMBER), tag(2)
_TENSOR_TYPE = message("a type", once=[_ELEM_TYPE, _SHAPE_OF_TYPE])
_SHAPE = message("a shape", once=[], repeated=[tag(1)])
_SIZE = tag(1, NUMBER)
_DIMENSION = message("a dimension", once=[_SIZE, tag(2), tag(3)])  # dim_value, dim_param, denotation

_ATTRIBUTE_TYPES = (1, 2, 3, 4, 6, 7, 8)
"""float, int, string, tensor, and lists of the first three: no graphs."""
_EXTERNAL = 1
_PLACE = (b"location", b"offset", b"length")
_DECIMAL = re.compile(rb"[0-9]{1,15}")
_OWN_DOMAINS = (b"", b"ai.onnx")
_BYTES_OF_A_VALUE = {1: 4, 2: 1, 3: 1, 4: 2, 5: 2, 6: 4, 7: 8, 9: 1, 10: 2, 11: 8, 12: 4, 13: 8, 16: 2}
"""Data type -> bytes of a value. Refused are text, complex numbers, and types of less than a byte."""
_NUMPY_NAMES = {1: "float32", 2: "uint8", 7: "int64"}
_MOST_VALUES_PER_BYTE = 8
"""A rough bound for values that are not stored as raw bytes. Runtimes check the exact number."""


def check_onnx(content: bytes, graph: OnnxFile, sizes: Mapping[str, int], where: str) -> None:
    """Check that `content` is a graph as our exports write it. Raises BundleError, which names `where`.

    Its inputs and outputs must be those of `graph`. It may take values only from the files in `graph.weights`, within
    the size in bytes that `sizes` gives for each file.
    """
    try:
        _Reader(content, graph, sizes).check_model()
    except Malformed as error:
        raise BundleError(f"{where} is not a graph that pahi-rt reads: {error}", fix=FIX) from error


class _Reader:
    """Checks one graph against its manifest. Every method raises Malformed for anything that is not allowed."""

    def __init__(self, content: bytes, graph: OnnxFile, sizes: Mapping[str, int]) -> None:
        self._content, self._graph = content, graph
        self._wire = Wire(content, MAX_FIELDS)
        self._known_attributes: set[bytes] = set()
        folder = PurePosixPath(graph.file).parent
        self._sizes = {str(PurePosixPath(name).relative_to(folder)).encode(): sizes[name] for name in graph.weights}

    def check_model(self) -> None:
        """Check the whole file."""
        if self._content[4:8] == b"ORTM":
            raise Malformed("ONNX Runtime would take it for its own format")
        graphs = []
        for found, start, end in self._wire.fields(0, len(self._content), _MODEL):
            if found == _GRAPH_OF_MODEL:
                graphs.append((start, end))
            elif found == _OPSET_OF_MODEL:
                self._check_domain(self._texts(start, end, _OPSET).get(tag(1), b""))
        if not graphs:
            raise Malformed("it holds no graph")
        self._check_graph(*graphs[0])

    def _check_graph(self, start: int, end: int) -> None:
        parts: dict[int, list[tuple[int, int]]] = {known: [] for known in _GRAPH.tags}
        for found, first, last in self._wire.fields(start, end, _GRAPH):
            parts[found].append((first, last))
        for what, known, most in (("nodes", _NODE_OF_GRAPH, MAX_NODES), ("tensors", _INITIALIZER, MAX_INITIALIZERS)):
            if len(parts[known]) > most:
                raise Malformed(f"it has {len(parts[known])} {what}, and {most} are allowed")
        self._check_values("inputs", parts[_INPUT], self._graph.inputs)
        self._check_values("outputs", parts[_OUTPUT], self._graph.outputs)
        for first, last in parts[_NODE_OF_GRAPH]:
            self._check_node(first, last)
        for first, last in parts[_INITIALIZER]:
            self._check_tensor(first, last, self._sizes)

    def _check_node(self, start: int, end: int) -> None:
        for found, first, last in self._wire.fields(start, end, _NODE):
            if found == _ATTRIBUTE_OF_NODE:
                self._check_attribute(first, last)
            elif found == _DOMAIN:
                self._check_domain(self._content[first:last])

    def _check_attribute(self, start: int, end: int) -> None:
        content = self._content[start:end]
        # Most attributes occur in many nodes, so each is checked once.
        if content not in self._known_attributes:
            for found, first, last in self._wire.fields(start, end, _ATTRIBUTE):
                if found == _TENSOR_OF_ATTRIBUTE:
                    self._check_tensor(first, last, {})
                elif found == _TYPE_OF_ATTRIBUTE and first not in _ATTRIBUTE_TYPES:
                    raise Malformed(f"an attribute has the type {first}")
            self._known_attributes.add(content)

    def _check_domain(self, domain: bytes) -> None:
        if domain not in _OWN_DOMAINS:
            raise Malformed(f"it has operators of the domain {_text(domain)}")

    def _check_tensor(self, start: int, end: int, sizes: Mapping[bytes, int]) -> None:
        """Check a tensor. `sizes` are the files that its values may come from: name -> bytes."""
        dims: list[int] = []
        data_type = location = typed = 0
        raw, entries = None, []
        for found, first, last in self._wire.fields(start, end, _TENSOR):
            if found == _DIM:
                dims.append(first)
            elif found == _DIMS:
                dims.extend(self._wire.numbers(first, last))
            elif found == _DATA_TYPE:
                data_type = first
            elif found == _RAW_DATA:
                raw = last - first
            elif found == _EXTERNAL_DATA:
                entries.append((first, last))
            elif found == _DATA_LOCATION:
                location = first
            elif found in _TYPED_DATA:
                typed += 1
        size = _bytes_of(dims, data_type)
        if location == _EXTERNAL and raw is None and not typed:
            self._check_place(entries, size, sizes)
        elif location or entries:
            raise Malformed("a tensor's values lie in two places")
        elif raw is not None and (raw != size or typed):
            raise Malformed(f"a tensor has {raw} bytes, and its shape {size}")
        elif size > (end - start) * _MOST_VALUES_PER_BYTE * _BYTES_OF_A_VALUE[data_type]:
            raise Malformed("a tensor has fewer values than its shape says")

    def _check_place(self, entries: Iterable[tuple[int, int]], size: int, sizes: Mapping[bytes, int]) -> None:
        """Check that a tensor's `size` bytes lie inside one of the files."""
        read = [self._texts(start, end, _ENTRY) for start, end in entries]
        place = {entry.get(tag(1), b""): entry.get(tag(2), b"") for entry in read}
        if sorted(place) != sorted(_PLACE) or len(read) != len(place):
            raise Malformed(f"a tensor's place in a file has other keys than {b', '.join(_PLACE).decode()}")
        location, offset, length = (place[key] for key in _PLACE)
        if location not in sizes:
            raise Malformed(f"a tensor lies in {_text(location)}, which the manifest does not list as its weights")
        if not (_DECIMAL.fullmatch(offset) and _DECIMAL.fullmatch(length)):
            raise Malformed(f"a tensor's offset {_text(offset)} and length {_text(length)} make no sense")
        if int(length) != size or int(offset) + size > sizes[location]:
            what = f"a tensor of {size} bytes lies at {int(offset)} of {location.decode()}, {int(length)} bytes long"
            raise Malformed(f"{what}; the file has {sizes[location]}")

    def _check_values(self, kind: str, values: Iterable[tuple[int, int]], specs: Sequence[TensorSpec]) -> None:
        """Check that the graph has the inputs or outputs of its manifest."""
        found = [self._read_value(start, end) for start, end in values]
        declared = {spec.name: spec.dtype for spec in specs}
        actual = {name: dtype for name, dtype, _ in found}
        if declared != actual or len(found) != len(declared):
            raise Malformed(f"it has the {kind} {actual}, its manifest says {declared}")
        shapes = {spec.name: spec.shape for spec in specs}
        for name, _, sizes in found:
            if sizes is not None and not _fits(sizes, shapes[name]):
                raise Malformed(f"{name} has the shape {sizes}, its manifest says {list(shapes[name])}")

    def _read_value(self, start: int, end: int) -> tuple[str, str, list[int | None] | None]:
        """Name, dtype and shape of an input or output; None for a size, or a whole shape, that is not given."""
        name, kind, shape = "", 0, None
        for found, first, last in self._wire.fields(start, end, _VALUE):
            if found == _NAME:
                name = self._content[first:last].decode(errors="replace")
            elif found == _TYPE_OF_VALUE:
                kind, shape = self._read_type(first, last)
        return name, _NUMPY_NAMES.get(kind, f"type {kind}"), shape

    def _read_type(self, start: int, end: int) -> tuple[int, list[int | None] | None]:
        kind, shape = 0, None
        inner = [(first, last) for found, first, last in self._wire.fields(start, end, _TYPE) if found == tag(1)]
        for found, first, last in chain.from_iterable(self._wire.fields(*span, _TENSOR_TYPE) for span in inner):
            if found == _ELEM_TYPE:
                kind = first
            else:
                shape = [self._read_size(*span) for _, *span in self._wire.fields(first, last, _SHAPE)]
        return kind, shape

    def _read_size(self, start: int, end: int) -> int | None:
        sizes = [value for found, value, _ in self._wire.fields(start, end, _DIMENSION) if found == _SIZE]
        return sizes[0] if sizes else None

    def _texts(self, start: int, end: int, kind: Message) -> dict[int, bytes]:
        """Tag -> content of a message whose fields are bytes."""
        return {found: self._content[first:last] for found, first, last in self._wire.fields(start, end, kind)}


def _text(found: bytes) -> str:
    return repr(found[:80].decode(errors="replace"))


def _bytes_of(dims: Sequence[int], data_type: int) -> int:
    if data_type not in _BYTES_OF_A_VALUE:
        raise Malformed(f"a tensor has the data type {data_type}")
    if len(dims) > MAX_DIMENSIONS or max(dims, default=0) > MAX_TENSOR:
        raise Malformed(f"a tensor has the shape {list(dims[:MAX_DIMENSIONS])}")
    size = math.prod(dims) * _BYTES_OF_A_VALUE[data_type]
    if size > MAX_TENSOR:
        raise Malformed(f"a tensor has {size} bytes, and {MAX_TENSOR} are allowed")
    return size


def _fits(sizes: Sequence[int | None], shape: Sequence[int | str]) -> bool:
    pairs = zip(sizes, shape, strict=False)
    return len(sizes) == len(shape) and all(a == b for a, b in pairs if a is not None and isinstance(b, int))
