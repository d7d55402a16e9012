"""Plans are really built here: TensorRT for RTX needs no GPU for that."""

from __future__ import annotations

from pathlib import Path

import pytest

from pahi_rt.errors import PahiError
from pahi_rt.export.tensorrt import Layer, PlanSettings, build_plan, check_types, read_layers

pytest.importorskip("tensorrt_rtx")

LOG = """Layers:
Name: conv/Conv, LayerType: correlation, Inputs: [ { Name: a, Datatype: Half }], Constants: [ { Name: w, Dimensions: \
[1], Datatype: Float }], Outputs: [ { Name: b, Datatype: Half, Format: y }], TacticName: t
Name: norm/Add, LayerType: kgen, Inputs: [ { Datatype: Half }], Constants: [], Outputs: [ { Datatype: Float }]

I/O Tensors:
 Name: image, IOMode: Output, DataType: UInt8
"""


def test_a_plan_is_built(contract: Path, tmp_path: Path) -> None:
    settings = PlanSettings(compute_capabilities=("86", "89"))
    layers = build_plan(contract / "one-step.onnx", tmp_path / "new" / "x.plan", settings)
    assert (tmp_path / "new" / "x.plan").stat().st_size > 1000
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
    with pytest.raises(PahiError, match="does not tell"):
        check_types([Layer("norm", "kgen", frozenset({"Half"}))], "fp16")
    check_types(wide, "fp32")
    check_types([*wide[:1], Layer("norm", "kgen", frozenset({"Float"}))], "fp16")


@pytest.mark.parametrize(
    ("gpus", "what"), [(("87",), "87"), (("CURRENT",), "CURRENT"), ((), "none"), (("86", "86"), "86, 86")]
)
def test_gpus_that_it_does_not_know(contract: Path, tmp_path: Path, gpus: tuple[str, ...], what: str) -> None:
    with pytest.raises(PahiError, match=rf"no plan for the compute capability {what} \(") as caught:
        build_plan(contract / "one-step.onnx", tmp_path / "x.plan", PlanSettings(compute_capabilities=gpus))
    assert "75, 80, 86" in caught.value.fix
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("batch", [(2, 1, 4), (0, 1, 4), (1, 4, 2)])
def test_sizes_that_make_no_batch(batch: tuple[int, int, int]) -> None:
    with pytest.raises(PahiError, match="no batch goes from"):
        PlanSettings(batch=batch)


def test_an_unknown_flavour() -> None:
    with pytest.raises(PahiError, match="there is no engine 'tensorrt-lite'"):
        PlanSettings("tensorrt-lite")


def test_what_is_no_graph(tmp_path: Path) -> None:
    (tmp_path / "x.onnx").write_bytes(b"nothing")
    with pytest.raises(PahiError, match="cannot read x.onnx: .*Failed to parse"):
        build_plan(tmp_path / "x.onnx", tmp_path / "x.plan", PlanSettings())
