"""Preprocessing as matrices, against PyTorch's filter and against ONNX's own."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from torch import Tensor

from pahi_rt.export.score_parity import draw_sample
from pahi_rt.export.scorer_graph import FixedPreprocess, resizing
from pahi_rt.scorers.preprocess import Fit, Preprocess, contain, cover, resize


def picture(height: int, width: int) -> Tensor:
    return torch.from_numpy(draw_sample(3, height, width)).permute(2, 0, 1)[None] / 255


@pytest.mark.parametrize("size", [(512, 512), (300, 451), (97, 40), (128, 128)])
@pytest.mark.parametrize("fit", [cover, partial(cover, round_offset=round), contain], ids=["clip", "vision", "hps"])
def test_matrices_are_pytorchs_filter(size: tuple[int, int], fit: Fit) -> None:
    images, preprocess = picture(*size), Preprocess(224, fit)
    expected = preprocess(images)
    assert expected.std() > 0.3  # or the comparison would see nothing
    assert (FixedPreprocess(preprocess, *size)(images) - expected).abs().max() < 2e-5


@pytest.mark.parametrize("size", [(4, 7), (5, 4), (4, 5)])
@pytest.mark.parametrize("offset", [math.floor, round])
def test_an_odd_margin_is_cut_where_the_scorer_cuts_it(size: tuple[int, int], offset: Callable[[float], int]) -> None:
    images, preprocess = picture(*size), Preprocess(4, partial(cover, round_offset=offset))
    assert torch.allclose(FixedPreprocess(preprocess, *size)(images), preprocess(images), atol=1e-5)


def onnx_resize(images: Tensor, edge: int, **attributes: Any) -> np.ndarray:
    """Opset 19's Resize, antialiased and cubic, in ONNX Runtime."""
    helper, shape = onnx.helper, [1, 3, edge, edge]
    node = helper.make_node("Resize", ["x", "", "", "sizes"], ["y"], mode="cubic", antialias=1, **attributes)
    values = [helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None) for name in ("x", "y")]
    sizes = helper.make_tensor("sizes", onnx.TensorProto.INT64, [4], shape)
    graph = helper.make_graph([node], "resize", values[:1], values[1:], [sizes])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 19)], ir_version=9)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    resized: np.ndarray = session.run(None, {"x": images.numpy()})[0]
    return resized


def test_onnx_resize_has_another_cubic_filter_unless_it_is_told() -> None:
    """Its default is a = -0.75, and weights beyond the edge; Pillow's and PyTorch's antialiased filters have a = -0.5
    and none. With both it is as near as rounding."""
    images = picture(512, 512)
    expected = resize(images, 224, 224).numpy()
    by_default = np.abs(onnx_resize(images, 224) - expected).max()
    told = np.abs(onnx_resize(images, 224, cubic_coeff_a=-0.5, exclude_outside=1) - expected).max()
    by_matrix = (resizing(512, 224, 0, 224) @ images @ resizing(512, 224, 0, 224).T).numpy()
    assert np.abs(by_matrix - expected).max() < 2e-6
    assert by_default > 0.01
    assert told < 1e-4
