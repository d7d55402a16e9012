from __future__ import annotations

import json
import re
import sys

import pytest

from pahi_rt.runtimes import NAMES
from tests.cli.conftest import Run


def test_what_works_and_what_does_not(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    for missing in ("openvino", "onnxruntime_ep_nv_tensorrt_rtx", "tensorrt", "tensorrt_rtx"):
        monkeypatch.setitem(sys.modules, missing, None)
    result = run("doctor")
    assert result.exit_code == 0
    lines = result.stdout.splitlines()
    assert lines[0].startswith("on ")
    assert re.fullmatch(r"onnxruntime +works  \d+\.\d+\.\d+ on CPU, \d+ ms a picture", lines[1])
    assert re.match(r"onnxruntime-tensorrt-rtx +- +NvTensorRTRTXExecutionProvider cannot be loaded: ", lines[4])
    assert re.match(r"openvino +- +OpenVINO cannot be loaded", lines[5])
    assert "to have openvino: pip install 'pahi-rt[openvino]'" in lines
    assert "to have tensorrt-rtx: pip install 'pahi-rt[tensorrt]'" in lines
    assert any(re.match("to have onnxruntime-tensorrt: pip .*tensorrt-cu13", line) for line in lines)
    assert sum(line.startswith("auto draws with onnxruntime: tensorrt: ") for line in lines) == 1
    assert result.stderr == "next: pahi-rt generate 'a grinning cat' --runtime onnxruntime\n"


@pytest.mark.openvino
def test_json(run: Run) -> None:
    document = json.loads(run("doctor", "--json").stdout)
    found = {finding["runtime"]: finding for finding in document["runtimes"]}
    assert list(found) == [name for name in NAMES if name != "auto"]
    assert [choice["runtime"] for choice in document["auto"]] == ["onnxruntime", "onnxruntime"]
    assert found["onnxruntime"]["works"] and found["onnxruntime"]["fix"] is None


def test_nothing_works(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    for missing in ("onnxruntime", "openvino", "tensorrt", "tensorrt_rtx"):
        monkeypatch.setitem(sys.modules, missing, None)
    result = run("doctor")
    assert result.exit_code == 1
    assert "to have onnxruntime: pip install" in result.stdout
