from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pahi_rt import draw_noise, open_bundle
from pahi_rt.choice import choose
from pahi_rt.runtimes import load
from pahi_rt.runtimes.onnxruntime import open_unrounded
from pahi_rt.unrounded import expose_unrounded


def test_the_values_before_rounding_become_the_pictures(contract_with_priors: Path) -> None:
    bundle = open_bundle(contract_with_priors)
    inputs: dict[str, Any] = {
        "input_ids": np.ones((2, 24), np.int64),
        "noise": draw_noise([1, 2], (4, 4, 4)),
        "prior_strength": np.ones(2, np.float32),
    }
    unrounded = open_unrounded(choose(bundle, prior="hi"))
    assert unrounded is not None
    values = unrounded(inputs)
    assert (values.dtype, values.shape) == (np.float32, (2, 3, 32, 32))
    assert np.any(values != np.rint(values))
    pictures = load(bundle, prior="hi").run(**inputs)
    assert np.array_equal(np.rint(values).astype(np.uint8).transpose(0, 2, 3, 1), pictures)


def test_a_graph_that_does_not_round() -> None:
    assert expose_unrounded(b"") is None


@pytest.mark.parametrize("length", [1, 127, 128, 300])
def test_names_of_any_length(length: int) -> None:
    onnx = pytest.importorskip("onnx", reason="the graph is made with onnx")
    name = "x" * length
    node = onnx.helper.make_node("Round", [name], ["image"])
    graph = onnx.helper.make_graph([node], "g", [], [onnx.helper.make_empty_tensor_value_info("image")])
    found, content = expose_unrounded(onnx.helper.make_model(graph).SerializeToString()) or ("", b"")
    assert found == name
    assert [output.name for output in onnx.load_from_string(content).graph.output] == ["image", name]
