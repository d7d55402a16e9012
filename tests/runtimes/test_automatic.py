"""What draws where no runtime is asked for."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pahi_rt import runtimes
from pahi_rt.bundle import Bundle, open_bundle
from pahi_rt.choice import Chosen, choose
from pahi_rt.errors import BundleError, RuntimeUnavailable
from pahi_rt.manifest import Plan
from pahi_rt.runtimes import Runtime
from pahi_rt.runtimes.automatic import open_fastest
from pahi_rt.runtimes.fake import FakeRuntime
from pahi_rt.runtimes.onnxruntime import require_onnxruntime
from pahi_rt.runtimes.table import by_rank

Edit = Callable[[Callable[[dict[str, Any]], object]], Path]
CUDA = ["CUDAExecutionProvider", "CPUExecutionProvider"]


@pytest.fixture
def bundle(contract: Path) -> Bundle:
    return open_bundle(contract)


@pytest.fixture
def planned(bundle: Bundle) -> Bundle:
    engine = Plan("engines/x.plan", "one-step.onnx", "0" * 64, "tensorrt-rtx", "1.7", ("86",), (1, 1, 4))
    return dataclasses.replace(bundle, manifest=dataclasses.replace(bundle.manifest, engines=(engine,)))


class Named(FakeRuntime):
    def __init__(self, chosen: Chosen) -> None:
        super().__init__(1, 1)
        self.chosen = chosen

    def describe(self) -> dict[str, str | int]:
        return {**super().describe(), "runtime": self.chosen.runtime, "why": str(self.chosen.why)}


def open_with(bundle: Bundle, make: Callable[[Chosen], Runtime]) -> Runtime:
    """What is opened if `make` opens every runtime."""
    return open_fastest(choose(bundle), [dataclasses.replace(entry, make=make) for entry in by_rank()])


def opener(*broken: str) -> Callable[[Chosen], Runtime]:
    def make(chosen: Chosen) -> Runtime:
        if chosen.runtime in broken:
            raise RuntimeUnavailable(f"no GPU for {chosen.runtime}", fix="buy one")
        return Named(chosen)

    return make


@pytest.fixture
def with_cuda(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(require_onnxruntime(), "get_available_providers", lambda: CUDA)


def test_on_a_machine_without_a_gpu(bundle: Bundle) -> None:
    described = runtimes.load(bundle).describe()
    assert described["runtime"] == "onnxruntime"
    assert described["why"] == (
        "tensorrt: the bundle has no plan for it; tensorrt-rtx: the bundle has no plan for it;"
        " onnxruntime-cuda: not in this ONNX Runtime"
    )


@pytest.mark.usefixtures("with_cuda")
def test_a_plan_comes_first_then_cuda_then_the_cpu(planned: Bundle) -> None:
    found = [
        open_with(planned, opener(*broken)).describe()
        for broken in ((), ("tensorrt-rtx",), ("tensorrt-rtx", "onnxruntime-cuda"))
    ]
    assert [described["runtime"] for described in found] == ["tensorrt-rtx", "onnxruntime-cuda", "onnxruntime"]
    assert str(found[1]["why"]).endswith("tensorrt-rtx: no GPU for tensorrt-rtx")
    assert str(found[2]["why"]).endswith("onnxruntime-cuda: no GPU for onnxruntime-cuda")


def test_nothing_is_tried_that_cannot_be(bundle: Bundle) -> None:
    tried: list[str] = []

    def make(chosen: Chosen) -> Runtime:
        tried.append(chosen.runtime)
        return Named(chosen)

    open_with(bundle, make)
    assert tried == ["onnxruntime"]


def test_what_the_cpu_cannot_draw_is_an_error(
    folder: Path, edit: Callable[[Callable[[dict[str, Any]], object]], Path]
) -> None:
    broken = edit(lambda data: data["graphs"][0].update(file="two-step.onnx"))
    with pytest.raises(BundleError, match="its manifest says"):
        runtimes.load(open_bundle(broken))
