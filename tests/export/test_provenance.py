"""What a bundle says of the tools that made it, wherever they came from."""

from __future__ import annotations

import importlib.metadata

import pytest
import torch

from pahi_rt.bench import machine
from pahi_rt.export.provenance import TOOLS, UNKNOWN, tool_versions
from pahi_rt.train.run import describe_environment


@pytest.fixture
def onnxruntime_gpu(monkeypatch: pytest.MonkeyPatch) -> str:
    """The module onnxruntime as a GPU's user has it: of another distribution. Its version."""
    onnxruntime = pytest.importorskip("onnxruntime")
    known = importlib.metadata.version

    def version(name: str) -> str:
        if name in ("onnxruntime", "onnxruntime-gpu"):
            raise importlib.metadata.PackageNotFoundError(name)
        return known(name)

    monkeypatch.setattr(importlib.metadata, "version", version)
    return str(onnxruntime.__version__)


def test_onnxruntime_may_come_under_any_name(onnxruntime_gpu: str) -> None:
    versions = tool_versions()
    assert versions["onnxruntime"] == onnxruntime_gpu
    assert versions["torch"] == torch.__version__
    assert UNKNOWN not in {versions[tool] for tool in TOOLS}
    assert machine.describe()["onnxruntime"] == onnxruntime_gpu
    assert describe_environment(torch.device("cpu"), 1, 0)["torch"] == torch.__version__
