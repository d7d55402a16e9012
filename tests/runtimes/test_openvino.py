from __future__ import annotations

import sys
from pathlib import Path

import pytest

from pahi_rt.bundle import open_bundle
from pahi_rt.errors import RuntimeUnavailable
from pahi_rt.runtimes.openvino import OpenVinoRuntime

pytestmark = pytest.mark.openvino


def test_it_computes_in_32_bits_whatever_the_cpu_has(contract: Path) -> None:
    runtime = OpenVinoRuntime(open_bundle(contract), threads=1)
    assert runtime._compiled.get_property("INFERENCE_PRECISION_HINT").to_string() == "f32"
    assert runtime._compiled.get_property("INFERENCE_NUM_THREADS") == 1


def test_a_device_that_is_not_there(contract: Path) -> None:
    with pytest.raises(RuntimeUnavailable, match="finds no device 'NPU.7' here") as caught:
        OpenVinoRuntime(open_bundle(contract), device="NPU.7")
    assert "use one of CPU" in caught.value.fix


def test_openvino_is_not_installed(contract: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "openvino", None)
    with pytest.raises(RuntimeUnavailable, match="OpenVINO cannot be loaded") as caught:
        OpenVinoRuntime(open_bundle(contract))
    assert caught.value.fix == "pip install 'pahi-rt[openvino]'"
