from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

from pahi_rt import Pipeline, runtimes
from pahi_rt.bundle import open_bundle
from pahi_rt.choice import choose
from pahi_rt.errors import RuntimeUnavailable
from pahi_rt.runtimes.openvino import OpenVinoRuntime, _properties, compile_graph

pytestmark = pytest.mark.openvino


def test_it_computes_in_32_bits_whatever_the_cpu_has(contract: Path) -> None:
    runtime = OpenVinoRuntime(choose(open_bundle(contract), runtime="openvino", threads=1))
    assert runtime.compiled.get_property("INFERENCE_PRECISION_HINT").to_string() == "f32"
    assert runtime.compiled.get_property("INFERENCE_NUM_THREADS") == 1


def test_what_8_bit_weights_are_multiplied_with_is_not_rounded(contract: Path) -> None:
    """By OpenVINO's default it is, on CPUs with VNNI. Other CPUs draw the same either way."""
    for arithmetic in ("f32", "f16"):
        compiled = compile_graph(contract / "one-step.onnx", arithmetic=arithmetic)
        assert compiled.get_property("DYNAMIC_QUANTIZATION_GROUP_SIZE") == 0
    assert _properties("bf16", None)["DYNAMIC_QUANTIZATION_GROUP_SIZE"] == 0  # not every CPU here has bfloat16


def test_a_device_that_is_not_there(contract: Path) -> None:
    with pytest.raises(RuntimeUnavailable, match="finds no device 'NPU.7' here") as caught:
        OpenVinoRuntime(choose(open_bundle(contract), runtime="openvino"), device="NPU.7")
    assert "use one of CPU" in caught.value.fix


def test_openvino_is_not_installed(contract: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "openvino", None)
    with pytest.raises(RuntimeUnavailable, match="OpenVINO cannot be loaded") as caught:
        runtimes.load(open_bundle(contract), name="openvino")
    assert caught.value.fix == "pip install 'pahi-rt[openvino]'"


def test_bfloat16_is_near_and_says_so() -> None:
    try:
        pipeline = Pipeline.load("emoji", runtime="openvino-bf16")
    except RuntimeUnavailable as error:
        pytest.skip(error.what)
    drawn, expected = (
        np.asarray(p("a red apple", seed=1), int) for p in (pipeline, Pipeline.load("emoji", runtime="openvino"))
    )
    assert 0 < np.abs(drawn - expected).mean() < 3
    assert pipeline.runtime.describe()["runtime"] == "openvino-bf16"


def test_a_cpu_without_bfloat16(contract: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pahi_rt.runtimes.openvino.has_bfloat16", lambda core, device: False)
    with pytest.raises(RuntimeUnavailable, match="this CPU has no bfloat16") as caught:
        runtimes.load(open_bundle(contract), name="openvino-bf16")
    assert caught.value.fix == "use --runtime openvino"
