"""The first node that leaves its tolerance is named, whatever the portions, and so are those that lose most."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from pahi_rt.bundle import open_bundle
from pahi_rt.errors import RuntimeUnavailable
from pahi_rt.export import layers, marked
from pahi_rt.export.inputs import Inputs
from pahi_rt.export.layers import (
    Side,
    compare_graphs,
    compare_layers,
    find_side,
    mark_network,
    shared_tensors,
    tolerance_db,
)
from pahi_rt.export.marked import make_onnxruntime, portions
from pahi_rt.noise import draw_noise
from pahi_rt.runtimes.onnxruntime import require_onnxruntime
from pahi_rt.runtimes.providers import CPU, PROVIDERS

FEEDS = {"x": np.linspace(1, 2, 64, dtype=np.float32)}
ONNX_RUNTIME = Side("onnxruntime", partial(make_onnxruntime, CPU, True))


def save(path: Path, factor: float) -> Path:
    """x -> a = 3 x -> b = factor a -> c = -b, with an index and a truth value beside it, which are not compared."""
    nodes = [
        helper.make_node("Mul", ["x", "three"], ["a"], "triple"),
        helper.make_node("Mul", ["a", "factor"], ["b"], "scale"),
        helper.make_node("Neg", ["b"], ["c"], "turn"),
        helper.make_node("Shape", ["c"], ["size"], "measure"),
        helper.make_node("Less", ["x", "three"], ["small"], "ask"),
    ]
    graph = helper.make_graph(
        nodes,
        "graph",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [64])],
        [helper.make_tensor_value_info("c", TensorProto.FLOAT, [64])],
        [
            numpy_helper.from_array(np.array(value, np.float32), name)
            for name, value in {"three": 3, "factor": factor}.items()
        ],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10), path)
    return path


def test_a_graph_is_as_it_is(tmp_path: Path) -> None:
    graph = save(tmp_path / "a.onnx", 1.0)
    ratios = compare_graphs(graph, graph, ONNX_RUNTIME, FEEDS)
    assert ratios == {"a": 200.0, "b": 200.0, "c": 200.0}


@pytest.mark.parametrize("portion", [1, 1 << 20])
def test_what_one_node_changes_reaches_all_after_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, portion: int
) -> None:
    monkeypatch.setattr(marked, "PORTION", portion)
    plain, other = save(tmp_path / "a.onnx", 1.0), save(tmp_path / "b.onnx", 1.01)
    ratios = compare_graphs(plain, other, ONNX_RUNTIME, FEEDS)
    assert ratios["a"] == 200.0
    assert [ratios[name] for name in "bc"] == pytest.approx([40, 40], abs=0.01)
    (turn, scale) = sorted(layers._losses(onnx.load(plain).graph.node[1:3], ratios), key=lambda loss: loss.added)
    assert (scale.title, turn.title, turn.added) == ("scale (Mul)", "turn (Neg)", 0)
    assert scale.added == pytest.approx(1e-4, rel=0.01)


def test_what_is_not_a_number_is_the_worst(tmp_path: Path) -> None:
    plain, other = save(tmp_path / "a.onnx", 1.0), save(tmp_path / "b.onnx", float("nan"))
    assert compare_graphs(plain, other, ONNX_RUNTIME, FEEDS)["b"] == -200


def test_portions_keep_memory_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    graph = save(tmp_path / "a.onnx", 1.0)
    names = shared_tensors(graph, graph)
    assert names == ["a", "b", "c", "size", "small"]
    assert list(portions(graph, names, FEEDS)) == [names]
    monkeypatch.setattr(marked, "PORTION", 2 * 64 * 4)
    assert list(portions(graph, names, FEEDS))[0] == ["a", "b"]


def test_a_bundle_layer_by_layer(contract: Path) -> None:
    bundle = open_bundle(contract)
    graph = bundle.manifest.graphs[0]
    feeds: Inputs = {"input_ids": np.zeros((1, 24), np.int64), "noise": draw_noise([0], (4, 4, 4))}
    found = compare_layers(bundle, graph, graph, find_side("onnxruntime"), feeds)
    assert found.first is None and found.tolerance_db == 60 and found.compared > 5


def test_tolerances_follow_the_precision() -> None:
    assert [tolerance_db("fp32", precision) for precision in ("fp32", "w16", "fp16", "w8", "int8")] == [
        60,
        40,
        40,
        30,
        30,
    ]


def test_a_side_that_fails_says_so(tmp_path: Path) -> None:
    def make(path: Path, names: Any, feeds: Any) -> Any:
        raise RuntimeUnavailable("there is no GPU", fix="get one")

    graph = save(tmp_path / "a.onnx", 1.0)
    with pytest.raises(RuntimeUnavailable, match="no GPU"):
        compare_graphs(graph, graph, Side("x", make), FEEDS)
    with pytest.raises(RuntimeUnavailable, match="cannot compute the graph's tensors") as caught:
        compare_graphs(graph, graph, ONNX_RUNTIME, {"x": FEEDS["x"][:3]})
    assert "--layers" in caught.value.fix


def test_who_has_a_runner() -> None:
    for name in ("onnxruntime", "onnxruntime-cuda", "tensorrt", "tensorrt-rtx"):
        assert find_side(name).name == name
    for name in ("openvino", "onnxruntime-tensorrt", "onnxruntime-tensorrt-rtx"):
        with pytest.raises(RuntimeUnavailable, match=f"no runner for {name}"):
            find_side(name)


def test_cuda_is_examined_as_it_draws(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the runtime's own options: TF32 would lose what the runtime keeps."""
    onnxruntime, asked = require_onnxruntime(), []
    make = onnxruntime.InferenceSession

    def on_cpu(model: bytes, options: Any, providers: Any, enable_fallback: int) -> Any:
        asked.append((providers[0], enable_fallback))
        session = make(model, options, providers=["CPUExecutionProvider"])
        session.get_providers = lambda: [providers[0][0]]
        return session

    monkeypatch.setattr(onnxruntime, "InferenceSession", on_cpu)
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: [p.name for p in PROVIDERS.values()])
    graph = save(tmp_path / "a.onnx", 1.0)
    assert compare_graphs(graph, graph, find_side("onnxruntime-cuda"), FEEDS)["c"] == 200
    plain, cuda = asked
    assert plain == (("CPUExecutionProvider", {}), 0)
    assert cuda == (("CUDAExecutionProvider", dict(PROVIDERS["onnxruntime-cuda"].options)), 0)
    assert cuda[0][1]["use_tf32"] == "0"


@pytest.mark.filterwarnings("ignore:Specified provider")
@pytest.mark.parametrize(
    ("others", "why"), [([], "has no CUDAExecutionProvider"), (["CUDAExecutionProvider"], "CUDAE.* cannot start")]
)
def test_the_cpu_never_stands_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], others: list[str], why: str
) -> None:
    monkeypatch.setattr(require_onnxruntime(), "get_available_providers", lambda: [CPU.name, *others])
    monkeypatch.setattr(require_onnxruntime().InferenceSession, "get_providers", lambda self: [CPU.name])
    graph = save(tmp_path / "a.onnx", 1.0)
    with pytest.raises(RuntimeUnavailable, match=why):
        compare_graphs(graph, graph, find_side("onnxruntime-cuda"), FEEDS)
    assert capfd.readouterr().out == ""


@dataclass
class Tensor:
    name: str
    is_network_output: bool = False


@dataclass
class Layer:
    tensors: list[Tensor | None]

    @property
    def num_outputs(self) -> int:
        return len(self.tensors)

    def get_output(self, index: int) -> Tensor | None:
        return self.tensors[index]


class Network:
    def __init__(self, *names: str) -> None:
        self.layers = [Layer([Tensor(name, name == "image"), None]) for name in names]
        self.num_layers, self.marked = len(names), list[str]()

    def get_layer(self, index: int) -> Layer:
        return self.layers[index]

    def mark_output(self, tensor: Tensor) -> None:
        self.marked.append(tensor.name)


def test_tensorrt_marks_what_it_has() -> None:
    network = mark_network(Network("a", "b", "image"), ["b", "folded", "image"])
    assert network.marked == ["b"]


def test_one_tensorrt_in_a_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Polygraphy would go on with the first one, under the name of the second."""
    monkeypatch.setattr(layers, "require_tensorrt", lambda flavour: None)
    for flavour in ("tensorrt-rtx", "tensorrt-rtx"):
        assert find_side(flavour).make(tmp_path / "a.onnx", ["a"], FEEDS).name == flavour
    with pytest.raises(RuntimeUnavailable, match="has begun with the other") as caught:
        find_side("tensorrt").make(tmp_path / "a.onnx", ["a"], FEEDS)
    assert caught.value.fix == "qualify one of the two at a time"


def test_a_real_network_of_tensorrt_is_marked(tmp_path: Path) -> None:
    trt = pytest.importorskip("tensorrt_rtx")
    builder = trt.Builder(trt.Logger(trt.Logger.ERROR))
    network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    parser = trt.OnnxParser(network, trt.Logger(trt.Logger.ERROR))
    assert parser.parse_from_file(str(save(tmp_path / "a.onnx", 1.0)))
    mark_network(network, ["a", "b"])
    assert {network.get_output(index).name for index in range(network.num_outputs)} == {"a", "b", "c"}
