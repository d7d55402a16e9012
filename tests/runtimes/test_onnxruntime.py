from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pahi_rt import runtimes
from pahi_rt.bundle import open_bundle
from pahi_rt.errors import BundleError, RuntimeUnavailable
from pahi_rt.runtimes.onnxruntime import OnnxRuntime

Edit = Callable[[Callable[[dict[str, Any]], object]], Path]


def test_describe(contract: Path) -> None:
    import onnxruntime

    assert runtimes.load(open_bundle(contract), threads=2).describe() == {
        "runtime": "onnxruntime",
        "version": onnxruntime.__version__,
        "device": "CPU",
        "precision": "fp32",
        "threads": 2,
    }


def test_threads_reach_the_session(contract: Path) -> None:
    runtime = OnnxRuntime(open_bundle(contract), threads=1)
    assert runtime._session.get_session_options().intra_op_num_threads == 1
    with pytest.raises(RuntimeUnavailable, match="0 threads"):
        OnnxRuntime(open_bundle(contract), threads=0)


def test_onnxruntime_is_not_installed(contract: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(RuntimeUnavailable, match="cannot be loaded") as caught:
        runtimes.load(open_bundle(contract))
    assert caught.value.fix.startswith("pip install")


def test_a_provider_that_is_not_there(contract: Path) -> None:
    with pytest.raises(RuntimeUnavailable, match="no QNNExecutionProvider"):
        OnnxRuntime(open_bundle(contract), provider="QNNExecutionProvider")


def test_a_provider_that_does_not_start(contract: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import onnxruntime

    monkeypatch.setattr(onnxruntime.InferenceSession, "get_providers", lambda self: ["OtherExecutionProvider"])
    with pytest.raises(RuntimeUnavailable, match="CPUExecutionProvider cannot start"):
        OnnxRuntime(open_bundle(contract))


def test_steps_that_the_bundle_does_not_have(contract: Path) -> None:
    with pytest.raises(BundleError, match="no graph of 3 steps"):
        runtimes.load(open_bundle(contract), steps=3)
