"""What is remembered of how long runtimes take."""

from __future__ import annotations

from pathlib import Path

import pytest

from pahi_rt.bundle import open_bundle
from pahi_rt.choice import Chosen, choose
from pahi_rt.runtimes.costs import Cost, Measured, estimate, recall, remember


@pytest.fixture
def chosen(contract: Path) -> Chosen:
    return choose(open_bundle(contract))


def test_a_total() -> None:
    assert Cost(1, 0.5, 0.25).total(1) == 1.5
    assert Cost(1, 0.5, 0.25).total(5) == 2.5


def test_nothing_is_known_at_first_then_what_was_measured(chosen: Chosen) -> None:
    assert recall(chosen, "onnxruntime") is None
    remember(chosen, "onnxruntime", Cost(1, 2, 3))
    assert recall(chosen, "onnxruntime") == Measured(1, 2, 3)
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
    assert recall(chosen, "onnxruntime-cuda") == Measured(0.1, 0.2, 0.3)


def test_another_processor_is_another_measurement(chosen: Chosen, monkeypatch: pytest.MonkeyPatch) -> None:
    remember(chosen, "onnxruntime", Cost(1, 2, 3))
    monkeypatch.setattr("pahi_rt.runtimes.costs.cpu_identity", lambda: "x86_64\nanother")
    assert recall(chosen, "onnxruntime") is None


def test_threads_matter_on_a_processor_alone(contract: Path) -> None:
    """So that what `doctor` measured of a GPU counts for the workers of `bulk` and `serve`."""
    on_one, on_all = (choose(open_bundle(contract), threads=threads) for threads in (1, None))
    for runtime, expected in (("onnxruntime", None), ("onnxruntime-cuda", Measured(1, 2, 3))):
        remember(on_all, runtime, Cost(1, 2, 3))
        assert recall(on_one, runtime) == expected


def test_one_picture_does_not_tell_what_the_next_one_takes(chosen: Chosen) -> None:
    one = Measured(1, 2, None)
    remember(chosen, "onnxruntime", one)
    assert recall(chosen, "onnxruntime") == one
    assert one.filled(Cost(9, 9, 0.5)) == Cost(1, 2, 0.5)
    assert one.filled(Cost(9, 9, 9)) == Cost(1, 2, 2), "no longer than the first one, with which all begins"
    assert Measured(1, 2, 0.1).filled(Cost(9, 9, 9)) == Cost(1, 2, 0.1)
    remember(chosen, "onnxruntime", Cost(1, 2, 0.1))
    remember(chosen, "onnxruntime", one)
    assert recall(chosen, "onnxruntime") == Measured(1, 2, 0.1)


@pytest.mark.parametrize("better", [Measured(20, 1.5, 0.02), Measured(20, 0.02, 1.5), Measured(17, 1.5, 1.5)])
def test_each_time_counts_by_itself(chosen: Chosen, better: Measured) -> None:
    remember(chosen, "onnxruntime", Cost(20, 1.5, 1.5))
    remember(chosen, "onnxruntime", better)
    assert recall(chosen, "onnxruntime") == better


def test_a_tenth_is_not_worth_a_file(chosen: Chosen) -> None:
    for cost in (Cost(1, 2, 3), Cost(0.95, 1.9, 2.8)):
        remember(chosen, "onnxruntime", cost)
    assert recall(chosen, "onnxruntime") == Measured(1, 2, 3)


def test_a_busy_machine_does_not_spoil_what_is_known(chosen: Chosen) -> None:
    for cost in (Cost(1, 2, 3), Cost(10, 20, 30), Cost(0.1, 20, 30)):
        remember(chosen, "onnxruntime", cost)
    assert recall(chosen, "onnxruntime") == Measured(0.1, 2, 3)
    remember(chosen, "onnxruntime", Cost(10, 20, 30), renew=True)
    assert recall(chosen, "onnxruntime") == Measured(10, 20, 30)


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
