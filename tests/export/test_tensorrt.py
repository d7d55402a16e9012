"""Plans are really built here: TensorRT for RTX needs no GPU for that."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from pahi_rt.errors import PahiError, RuntimeUnavailable
from pahi_rt.export.tensorrt import Layer, PlanSettings, build_plan, check_types, read_layers, require_tensorrt

pytest.importorskip("tensorrt_rtx")

LOG = """Layers:
Name: conv/Conv, LayerType: correlation, Inputs: [ { Name: a, Datatype: Half }], Constants: [ { Name: w, Dimensions: \
[1], Datatype: Float }], Outputs: [ { Name: b, Datatype: Half, Format: y }], TacticName: t
Name: norm/Add, LayerType: kgen, Inputs: [ { Datatype: Half }], Constants: [], Outputs: [ { Datatype: Float }]

I/O Tensors:
 Name: image, IOMode: Output, DataType: UInt8
"""


def test_a_plan_is_built(contract: Path, tmp_path: Path) -> None:
    phases: list[str] = []
    settings = PlanSettings(compute_capabilities=("86", "89"))
    layers = build_plan(contract / "one-step.onnx", tmp_path / "new" / "x.plan", settings, phases.append)
    assert (tmp_path / "new" / "x.plan").stat().st_size > 1000
    assert "Building engine" in phases
    assert any("UInt8" in layer.types for layer in layers)


def test_layers_are_read_from_the_log() -> None:
    assert read_layers(LOG) == [
        Layer("conv/Conv", "correlation", frozenset({"Half"})),
        Layer("norm/Add", "kgen", frozenset({"Half", "Float"})),
    ]
    assert read_layers("") == []


def test_a_convolution_in_32_bits_is_refused_in_fp16() -> None:
    wide = [Layer("a", "correlation", frozenset({"Half"})), Layer("b", "gemm", frozenset({"Float"}))]
    with pytest.raises(PahiError, match="1 of 2 convolutions and matrix products are computed in 32 bits, such as b"):
        check_types(wide, "fp16")
    check_types(wide, "fp32")
    check_types([*wide[:1], Layer("norm", "kgen", frozenset({"Float"}))], "fp16")


@pytest.mark.parametrize(
    ("settings", "what"),
    [
        (PlanSettings(compute_capabilities=("87",)), "no plan for the compute capability 87"),
        (PlanSettings(compute_capabilities=("CURRENT",)), "no plan for the compute capability CURRENT"),
        (PlanSettings(compute_capabilities=()), "no plan for the compute capability none"),
        (PlanSettings(compute_capabilities=("86", "86")), "no plan for the compute capability 86, 86"),
        (PlanSettings(batch=(2, 1, 4)), "no batch goes from 2 over 1 to 4"),
        (PlanSettings(batch=(0, 1, 4)), "no batch goes from 0 over 1 to 4"),
        (PlanSettings(flavour="tensorrt-lite"), "there is no engine 'tensorrt-lite'"),
    ],
)
def test_what_cannot_be_built(contract: Path, tmp_path: Path, settings: PlanSettings, what: str) -> None:
    with pytest.raises(PahiError, match=what) as caught:
        build_plan(contract / "one-step.onnx", tmp_path / "x.plan", settings)
    assert caught.value.fix
    assert not list(tmp_path.iterdir())


def test_what_is_no_graph(tmp_path: Path) -> None:
    (tmp_path / "x.onnx").write_bytes(b"nothing")
    with pytest.raises(PahiError, match="cannot read x.onnx: .*Failed to parse"):
        build_plan(tmp_path / "x.onnx", tmp_path / "x.plan", PlanSettings())


@pytest.mark.parametrize("flavour", ["tensorrt", "tensorrt-rtx"])
def test_not_installed(flavour: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, flavour.replace("-", "_"), None)
    with pytest.raises(RuntimeUnavailable, match=f"{flavour} cannot be loaded") as caught:
        require_tensorrt(flavour)
    assert caught.value.fix.startswith("pip install")
