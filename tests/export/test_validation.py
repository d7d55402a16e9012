"""A plan is validated on the GPU that it is for: here a fake one, which draws what ONNX Runtime draws, or not quite."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnx
import pytest

from pahi_rt.bundle import Bundle, open_bundle
from pahi_rt.choice import Chosen
from pahi_rt.errors import ParityError, RuntimeUnavailable
from pahi_rt.export import plans, validation
from pahi_rt.export.layers import Side
from pahi_rt.export.marked import make_onnxruntime
from pahi_rt.export.plans import add_plans
from pahi_rt.export.tensorrt import PlanSettings
from pahi_rt.export.validation import allowed, validate_plan
from pahi_rt.manifest import Plan
from pahi_rt.runtimes import load
from pahi_rt.runtimes.providers import CPU

VERSION = "1.7.1"


class Fake:
    """Draws what ONNX Runtime draws, `error` levels off. The plan lies in a folder inside the bundle."""

    def __init__(self, error: int, chosen: Chosen) -> None:
        bundle = open_bundle(chosen.bundle.path.parent)
        assert chosen.bundle.read(chosen.bundle.manifest.engines[0].file)
        self._runtime, self._error = load(bundle, chosen.graph.steps, "onnxruntime"), error

    def run(self, *inputs: Any) -> Any:
        return np.clip(self._runtime.run(*inputs).astype(int) + self._error, 0, 255).astype(np.uint8)


@pytest.fixture
def bundle(folder: Path) -> Bundle:
    (folder / "scratch").mkdir()
    (folder / "scratch" / "x.plan").write_bytes(b"a plan")
    return open_bundle(folder)


@pytest.fixture
def plan(bundle: Bundle) -> Plan:
    sha256 = bundle.manifest.files["one-step.onnx"].sha256
    return Plan("engines/x.plan", "one-step.onnx", sha256, "tensorrt-rtx", VERSION, ("86",), (1, 2, 4))


def validate(bundle: Bundle, plan: Plan) -> Any:
    return validate_plan(bundle, plan, bundle.manifest.graphs[0], bundle.path / "scratch" / "x.plan")


@pytest.mark.parametrize("error", [0, 1])
def test_a_plan_within_one_level_is_taken(
    bundle: Bundle, plan: Plan, monkeypatch: pytest.MonkeyPatch, error: int
) -> None:
    monkeypatch.setattr(validation, "TensorRtRuntime", partial(Fake, error))
    row = validate(bundle, plan)
    assert (row.graph, row.against) == ("engines/x.plan", "one-step.onnx in ONNX Runtime")
    assert row.levels_within_one == 1


def damage(path: Path, names: Any, feeds: Any) -> Any:
    """The graph, with a convolution that is computed wrongly, in Polygraphy's runner."""
    model = onnx.load(path)
    (convolution,) = (node for node in model.graph.node if node.op_type == "Conv")
    true, convolution.output[0] = convolution.output[0], "before"
    index = list(model.graph.node).index(convolution) + 1
    model.graph.node.insert(index, onnx.helper.make_node("Add", ["before", "before"], [true], "twice"))
    wrong = path.parent / "wrong" / "wrong.onnx"
    wrong.parent.mkdir(exist_ok=True)
    onnx.save(model, wrong)
    return make_onnxruntime(CPU, True, wrong, names, feeds)


def test_the_layer_at_which_a_plan_parts_is_named(
    bundle: Bundle, plan: Plan, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(validation, "TensorRtRuntime", partial(Fake, 2))
    fault = Side("tensorrt-rtx", lambda path, names, feeds: damage(copied(path, tmp_path), names, feeds))
    monkeypatch.setattr(validation, "find_side", lambda name: fault)
    with pytest.raises(ParityError, match=r"is not one-step.onnx in .*; first in the node small \(Conv\): -?0.0 dB"):
        validate(bundle, plan)


def copied(path: Path, place: Path) -> Path:
    """The graph where files may be written beside it: a bundle must not change while it is open."""
    for file in path.parent.iterdir():
        if file.is_file():
            (place / file.name).write_bytes(file.read_bytes())
    return place / path.name


def test_where_no_layer_is_at_fault(bundle: Bundle, plan: Plan, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(validation, "TensorRtRuntime", partial(Fake, 2))
    side = Side("tensorrt-rtx", partial(make_onnxruntime, CPU, True))
    monkeypatch.setattr(validation, "find_side", lambda name: side)
    with pytest.raises(ParityError, match="the difference lies in how they are fused"):
        validate(bundle, plan)

    def fail(*_: object) -> Any:
        raise RuntimeUnavailable("no memory", fix="get some")

    monkeypatch.setattr(validation, "find_side", lambda name: Side("tensorrt-rtx", fail))
    with pytest.raises(ParityError, match="its layers cannot be compared: no memory"):
        validate(bundle, plan)


def test_black_pictures_are_refused(bundle: Bundle, plan: Plan, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(validation, "TensorRtRuntime", partial(Fake, -255))
    with pytest.raises(ParityError, match="draws a black picture"):
        validate(bundle, plan)


def test_fewer_bits_may_differ_by_more() -> None:
    assert [(allowed(name).psnr_db, allowed(name).levels_within_one) for name in ("fp32", "w8", "fp16", "int8")] == [
        (0, 0.999),
        (0, 0.999),
        (40, 0),
        (30, 0),
    ]


def test_a_build_validates_where_the_gpu_is(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("tensorrt_rtx")
    before = (folder / "pahi.json").read_bytes()
    monkeypatch.setattr(validation, "Cuda", lambda: SimpleNamespace(compute_capability="86"))
    monkeypatch.setattr(validation, "TensorRtRuntime", partial(Fake, 5))
    with pytest.raises(ParityError, match="is not one-step.onnx in ONNX Runtime"):
        add_plans(folder, PlanSettings(batch=(1, 1, 2)))
    assert (folder / "pahi.json").read_bytes() == before
    monkeypatch.setattr(validation, "TensorRtRuntime", partial(Fake, 1))
    stages: list[str] = []
    add_plans(folder, PlanSettings(batch=(1, 1, 2)), on_stage=lambda name, *_: stages.append(name))
    assert "compare engines/one-step-tensorrt-rtx-sm86.plan with ONNX Runtime" in stages
    monkeypatch.setattr(validation, "Cuda", lambda: SimpleNamespace(compute_capability="120"))
    monkeypatch.setattr(plans, "validate_plan", None)  # it is not called for a GPU that the plan is not for
    add_plans(folder, PlanSettings(batch=(1, 1, 2)))
