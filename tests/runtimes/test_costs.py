"""What is remembered of how long runtimes take."""

from __future__ import annotations

from pathlib import Path

import pytest

from pahi_rt.bundle import open_bundle
from pahi_rt.choice import Chosen, choose
from pahi_rt.runtimes.costs import Cost, estimate, recall, remember


@pytest.fixture
def chosen(contract: Path) -> Chosen:
    return choose(open_bundle(contract))


def test_a_total() -> None:
    assert Cost(1, 0.5, 0.25).total(1) == 1.5
    assert Cost(1, 0.5, 0.25).total(5) == 2.5


def test_nothing_is_known_at_first_then_what_was_measured(chosen: Chosen) -> None:
    assert recall(chosen, "onnxruntime") is None
    remember(chosen, "onnxruntime", Cost(1, 2, 3))
    assert recall(chosen, "onnxruntime") == Cost(1, 2, 3)
    assert recall(chosen, "openvino") is None


def test_another_graph_is_another_measurement(chosen: Chosen, contract: Path) -> None:
    remember(chosen, "onnxruntime", Cost(1, 2, 3))
    assert recall(choose(open_bundle(contract), steps=2), "onnxruntime") is None


def test_cores_are_those_that_this_process_may_use(chosen: Chosen, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pahi_rt.runtimes.costs.flops", lambda chosen: 1e12)
    monkeypatch.setattr("pahi_rt.runtimes.costs.usable_cores", lambda: 2)
    remember(chosen, "onnxruntime", Cost(1, 2, 3))
    assert estimate(chosen, "cpu").picture_s == estimate(chosen, "cpu", cores=2).picture_s
    monkeypatch.setattr("pahi_rt.runtimes.costs.usable_cores", lambda: 16)
    assert estimate(chosen, "cpu").picture_s == estimate(chosen, "cpu", cores=16).picture_s
    assert recall(chosen, "onnxruntime") is None


def test_another_gpu_is_another_measurement(chosen: Chosen, monkeypatch: pytest.MonkeyPatch) -> None:
    remember(chosen, "onnxruntime-cuda", Cost(1, 2, 3))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1")
    assert recall(chosen, "onnxruntime-cuda") is None
    monkeypatch.setattr("pahi_rt.runtimes.costs.gpu_identity", lambda: "Model: NVIDIA H200")
    remember(chosen, "onnxruntime-cuda", Cost(0.1, 0.2, 0.3))
    assert recall(chosen, "onnxruntime-cuda") == Cost(0.1, 0.2, 0.3)


def test_a_busy_machine_does_not_spoil_what_is_known(chosen: Chosen) -> None:
    for cost in (Cost(1, 2, 3), Cost(10, 20, 30), Cost(0.1, 20, 30)):
        remember(chosen, "onnxruntime", cost)
    assert recall(chosen, "onnxruntime") == Cost(0.1, 2, 3)
    remember(chosen, "onnxruntime", Cost(10, 20, 30), renew=True)
    assert recall(chosen, "onnxruntime") == Cost(10, 20, 30)


@pytest.mark.parametrize(
    "content", ["", "{", '{"load_s": -1, "first_s": 1, "picture_s": 1}', '{"load_s": 1}', "[" * 99]
)
def test_a_damaged_file_is_no_measurement(chosen: Chosen, cache: Path, content: str) -> None:
    remember(chosen, "onnxruntime", Cost(1, 2, 3))
    (file,) = (cache.parent / "costs").iterdir()
    file.write_text(content)
    assert recall(chosen, "onnxruntime") is None


def test_where_nothing_can_be_written(chosen: Chosen, cache: Path) -> None:
    cache.parent.write_text("in the way")
    remember(chosen, "onnxruntime", Cost(1, 2, 3))
    assert recall(chosen, "onnxruntime") is None
