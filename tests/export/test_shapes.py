"""Computed shapes become constants where only the batch is open, and the values stay as they are."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from numpy.typing import NDArray
from onnx.reference import ReferenceEvaluator

from pahi_rt.export.shapes import fix_shapes

NORM = """
    <ir_version: 9, opset_import: ["" : 20]>
    norm (float[batch, 6, 4, 5] x) => (float[batch, 6, 4, 5] y)
    <int64[3] groups = {0, 2, -1}> {
        grouped = Reshape (x, groups)
        doubled = Add (grouped, grouped)
        shape = Shape (x)
        y = Reshape (doubled, shape)
    }
"""
KEYS = """
    <ir_version: 9, opset_import: ["" : 20]>
    keys (float[batch, 7, 2, 3] k) => (float[batch, 2, 3, 7] swapped)
    <int64[1] first = {-9223372036854775807}, int64[1] last = {9223372036854775807},
     int64[1] minus_one = {-1}, int64[1] minus_two = {-2}> {
        heads = Transpose <perm = [0, 2, 1, 3]> (k)
        shape = Shape <start = 0> (heads)
        width = Slice (shape, minus_one, last)
        length = Slice (shape, minus_two, minus_one)
        outer = Slice (shape, first, minus_two)
        three = Concat <axis = 0> (minus_one, length, width)
        flat = Reshape (heads, three)
        turned = Transpose <perm = [0, 2, 1]> (flat)
        four = Concat <axis = 0> (outer, width, length)
        swapped = Reshape (turned, four)
    }
"""
TWO_OPEN = """
    <ir_version: 9, opset_import: ["" : 20]>
    open (float[batch, length, 4] x) => (float[batch, length, 4] y)
    <int64[1] all = {-1}> {
        flat = Reshape (x, all)
        shape = Shape (x)
        y = Reshape (flat, shape)
    }
"""


def fixed(text: str) -> tuple[onnx.ModelProto, onnx.ModelProto]:
    """The model before and after."""
    before = onnx.shape_inference.infer_shapes(onnx.parser.parse_model(text))
    model = ir.from_proto(before)
    fix_shapes(model)
    return before, ir.to_proto(model)


def kinds(model: onnx.ModelProto) -> Counter[str]:
    return Counter(node.op_type for node in model.graph.node)


def run(model: onnx.ModelProto, values: NDArray[np.float32]) -> list[NDArray[np.float32]]:
    found: Any = ReferenceEvaluator(model).run(None, {model.graph.input[0].name: values})
    return list(found)


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize(
    ("text", "shape", "expected"),
    [
        pytest.param(NORM, (6, 4, 5), {"Reshape": 2, "Add": 1}, id="a norm's groups"),
        pytest.param(KEYS, (7, 2, 3), {"Transpose": 1}, id="the keys of attention"),
    ],
)
def test_no_shape_is_computed(text: str, shape: tuple[int, ...], expected: dict[str, int], batch: int) -> None:
    before, after = fixed(text)
    onnx.checker.check_model(after, full_check=True)
    assert kinds(after) == expected
    values = np.random.default_rng(0).random((batch, *shape), np.float32)
    assert np.array_equal(run(before, values)[0], run(after, values)[0])


def test_a_shape_with_two_open_sizes_stays() -> None:
    before, after = fixed(TWO_OPEN)
    assert kinds(after) == kinds(before)


def test_other_orders_are_not_merged() -> None:
    _, after = fixed(KEYS.replace("perm = [0, 2, 1]>", "perm = [0, 1, 2]>"))
    assert kinds(after) == {"Reshape": 2, "Transpose": 2}


def test_keys_that_are_read_before_they_are_swapped_stay() -> None:
    text = KEYS.replace("=> (float[batch, 2, 3, 7] swapped)", "=> (float[batch, 2, 3, 7] swapped, float[n, 7, 3] flat)")
    before, after = fixed(text)
    assert kinds(after) == {"Reshape": 1, "Transpose": 2}
    values = np.random.default_rng(0).random((2, 7, 2, 3), np.float32)
    for one, other in zip(run(before, values), run(after, values), strict=True):
        assert np.array_equal(one, other)
