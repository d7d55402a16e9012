"""The embedded model's graphs taken apart, counted, and put together again."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
import pytest

from pahi_rt.bench.components import time_components
from pahi_rt.bench.derived import Feeds, Inputs, copy_with_plain, open_cached, open_components, open_part
from pahi_rt.bench.parts import split
from pahi_rt.bench.reports.table2 import COMPONENTS
from pahi_rt.bench.work import Work, count_work
from pahi_rt.bundle import Bundle, open_bundle, verify
from pahi_rt.errors import RuntimeUnavailable
from pahi_rt.manifest import GAUSSIAN
from pahi_rt.runtimes import load

RUNTIMES = ("onnxruntime", pytest.param("openvino", marks=pytest.mark.openvino))


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return copy_with_plain(open_bundle("emoji"), tmp_path_factory.mktemp("copy"), "w16")


def draw(bundle: Bundle, number: int, steps: int, prior: str, strength: float = 1.0) -> np.ndarray:
    feeds = Inputs(bundle)(number)
    runtime = load(bundle, steps=steps, prior=prior, name="onnxruntime")
    return runtime.run(feeds["input_ids"], feeds["noise"], np.full(1, strength, np.float32))[0]


def test_a_copy_has_graphs_with_and_without_priors(copy: Bundle) -> None:
    verify(copy)
    kinds = [(graph.steps, graph.prior) for graph in copy.manifest.graphs]
    assert sorted(kinds) == [(steps, prior) for steps in (1, 2) for prior in (GAUSSIAN, "hi", "pahi")]
    plain = copy.graph(1, GAUSSIAN)
    assert ([spec.name for spec in plain.inputs], plain.weights) == (["input_ids", "noise"], ("weights-w16.bin",))


@pytest.mark.parametrize("steps", [1, 2])
def test_without_its_prior_a_graph_draws_what_it_does_at_strength_0(copy: Bundle, steps: int) -> None:
    np.testing.assert_array_equal(draw(copy, 3, steps, GAUSSIAN), draw(copy, 3, steps, "pahi", strength=0))


@pytest.mark.parametrize("runtime", RUNTIMES)
@pytest.mark.parametrize("prior", ["pahi", GAUSSIAN])
def test_a_cached_prompt_draws_the_same_picture(copy: Bundle, prior: str, runtime: str) -> None:
    picture = open_cached(copy, copy.graph(1, prior), runtime)
    for number in (0, 9):
        drawn: Any = picture(number)
        (image,) = drawn
        assert np.abs(np.asarray(image, np.int64) - draw(copy, number, 1, prior)).max() <= 1


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_components_one_after_the_other_are_the_graph(copy: Bundle, runtime: str) -> None:
    graph, known = copy.graph(2, "pahi"), dict(Inputs(copy)(4))
    for part in open_components(copy, graph, runtime).values():
        known |= part(known)
    assert np.abs(known["image"][0].astype(int) - draw(copy, 4, 2, "pahi")).max() <= 1


def test_a_graph_without_a_prior_has_three_components(copy: Bundle) -> None:
    parts = split(ir.load(copy.file(copy.graph(1, GAUSSIAN).file)))
    assert list(parts) == [name for name in COMPONENTS if name != "prior"]


def test_components_are_timed(copy: Bundle) -> None:
    times = time_components(copy, copy.graph(1, "pahi"), "onnxruntime", 3)
    assert list(times) == list(COMPONENTS)
    assert all(taken.n == 3 and taken.median > 0 for taken in times.values())
    assert times["prior"].median < times["unet"].median


def test_only_runtimes_of_the_cpu_take_parts(copy: Bundle) -> None:
    with pytest.raises(RuntimeUnavailable) as caught:
        open_part(copy.file(copy.graph(1).file), "tensorrt")
    assert caught.value.fix == "measure it with onnxruntime or openvino"


def test_work_of_layers_that_can_be_counted_by_hand(tmp_path: Path) -> None:
    noise = ir.val("noise", ir.DataType.FLOAT, ["batch", 4, 8, 8])
    kernel = ir.Value(name="kernel", const_value=ir.tensor(np.zeros((6, 4, 3, 3), np.float16), name="kernel"))
    widened = ir.node("Cast", [kernel], {"to": ir.DataType.FLOAT}, name="kernel/Cast")
    conv = ir.node("Conv", [noise, widened.outputs[0]], {"pads": [1, 1, 1, 1]}, name="unets.0/Conv")
    square = ir.node("MatMul", [conv.outputs[0], conv.outputs[0]], name="decoder/MatMul")
    conv.outputs[0].name, square.outputs[0].name = "convolved", "image"
    square.outputs[0].type, square.outputs[0].shape = ir.TensorType(ir.DataType.FLOAT), ir.Shape(["batch", 6, 8, 8])
    nodes = [widened, conv, square]
    graph = ir.Graph([noise], [square.outputs[0]], nodes=nodes, initializers=[kernel], opset_imports={"": 20}, name="g")
    ir.save(ir.Model(graph, ir_version=10), tmp_path / "graph.onnx")
    for batch in (1, 3):
        work = count_work(tmp_path / "graph.onnx", batch)
        pixels = 64 * batch
        assert work["unet"] == Work(2 * 6 * pixels * 36 / 1e9, 216 * 2 / 1e6, 4 * 10 * pixels / 1e6)
        assert work["decoder"] == Work(2 * 6 * pixels * 8 / 1e9, 0, 4 * 18 * pixels / 1e6)


def test_work_of_the_embedded_model(copy: Bundle) -> None:
    one, two = (count_work(copy.file(copy.graph(steps, "pahi").file)) for steps in (1, 2))
    assert list(one) == list(COMPONENTS)
    assert two["unet"].gflop == pytest.approx(2 * one["unet"].gflop, rel=0.03)  # both steps read the same prompt
    assert two["text encoder"] == one["text encoder"]
    # Each weight is multiplied at least once.
    assert all(part.gflop * 1e9 >= part.weights_mb * 1e6 / 2 for name, part in one.items() if name != "text encoder")


def test_a_limit_is_the_slower_of_computing_and_reading() -> None:
    work = Work(gflop=2, weights_mb=500, activations_mb=10**6)
    assert work.limit_ms(gflop_per_s=100, gb_per_s=100) == 20
    assert work.limit_ms(gflop_per_s=1000, gb_per_s=10) == 50


def test_inputs_differ_from_picture_to_picture(copy: Bundle) -> None:
    inputs = Inputs(copy)
    first, second = inputs(0), inputs(1)
    assert not np.array_equal(first["noise"], second["noise"])
    assert not np.array_equal(first["input_ids"], second["input_ids"])
    again: Feeds = inputs(0)
    assert all(np.array_equal(first[name], again[name]) for name in first)
