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
from pahi_rt.manifest import FileRecord, Plan
from pahi_rt.runtimes import Runtime
from pahi_rt.runtimes.automatic import open_fastest, rank
from pahi_rt.runtimes.costs import Cost, Measured, estimate, flops, remember
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


def measured(bundle: Bundle, **costs: Measured) -> None:
    """Remember what runtimes cost; "_" stands for "-" in their names."""
    for name, cost in costs.items():
        remember(choose(bundle), name.replace("_", "-"), cost)


GPU, CPU = Cost(0.84, 1.0, 0.008), Cost(0.3, 0.02, 0.018)
"""What the embedded model was seen to take."""


@pytest.mark.usefixtures("with_cuda")
@pytest.mark.parametrize(
    ("pictures", "expected"),
    [(1, "onnxruntime"), (8, "onnxruntime"), (140, "onnxruntime"), (160, "onnxruntime-cuda")],
)
def test_a_small_model_stays_on_the_cpu_for_a_few_pictures(bundle: Bundle, pictures: int, expected: str) -> None:
    measured(bundle, onnxruntime_cuda=GPU, onnxruntime=CPU)
    chosen = choose(bundle, pictures=pictures)
    described = open_fastest(chosen, [dataclasses.replace(entry, make=Named) for entry in by_rank()]).describe()
    assert described["runtime"] == expected
    if pictures == 1:
        times = "0.32 s with onnxruntime (measured here) and 1.8 s with onnxruntime-cuda (measured here)"
        assert str(described["why"]).startswith(f"1 picture takes about {times}; tensorrt: the bundle has no plan")


@pytest.mark.usefixtures("with_cuda")
def test_estimates_stand_until_something_is_measured(bundle: Bundle) -> None:
    one, two = (rank(choose(bundle, pictures=1), by_rank()) for _ in range(2))
    assert one == two and one.first == "onnxruntime"
    assert one.why.count("(estimated)") == 2
    measured(bundle, onnxruntime=Cost(100, 1, 1))
    assert rank(choose(bundle, pictures=1), by_rank()).first == "onnxruntime-cuda"


@pytest.mark.usefixtures("with_cuda")
def test_a_gpus_start_is_not_the_price_of_every_picture(bundle: Bundle) -> None:
    """As after `pahi-rt generate "a cat" --runtime onnxruntime-cuda`."""
    measured(bundle, onnxruntime_cuda=Measured(0.84, 1.0, None), onnxruntime=CPU)
    one, many = (rank(choose(bundle, pictures=pictures), by_rank()) for pictures in (1, 1000))
    assert many.first == "onnxruntime-cuda"
    assert "9.8 s with onnxruntime-cuda (estimated)" in many.why
    assert "1.8 s with onnxruntime-cuda (measured here)" in one.why


@pytest.mark.usefixtures("with_cuda")
def test_a_large_model_is_estimated_to_be_faster_on_a_gpu(bundle: Bundle) -> None:
    """SD-Turbo in 16 bits: 2.4 GB of weights, 64 x 64 latents."""
    image = dataclasses.replace(bundle.manifest.image, latent_shape=(4, 64, 64))
    files = {**bundle.manifest.files, "weights.bin": FileRecord("0" * 64, 2_400_000_000)}
    graph = dataclasses.replace(bundle.manifest.graphs[0], precision="fp16")
    manifest = dataclasses.replace(bundle.manifest, image=image, files=files, graphs=(graph,))
    large = choose(dataclasses.replace(bundle, manifest=manifest), pictures=1)
    assert 0.8e12 < flops(large) < 1.2e12
    assert rank(large, by_rank()).first == "onnxruntime-cuda"
    assert estimate(large, "cpu", cores=4).picture_s == pytest.approx(estimate(large, "cpu", cores=2).picture_s / 2)


@pytest.mark.usefixtures("with_cuda")
def test_a_plan_comes_first_then_cuda_then_the_cpu(planned: Bundle) -> None:
    measured(planned, tensorrt_rtx=Cost(1, 0.1, 0.001), onnxruntime_cuda=Cost(1, 1, 0.002), onnxruntime=Cost(1, 1, 1))
    found = [
        open_with(planned, opener(*broken)).describe()
        for broken in ((), ("tensorrt-rtx",), ("tensorrt-rtx", "onnxruntime-cuda"))
    ]
    assert [described["runtime"] for described in found] == ["tensorrt-rtx", "onnxruntime-cuda", "onnxruntime"]
    assert str(found[1]["why"]).endswith("tensorrt-rtx: no GPU for tensorrt-rtx")
    assert str(found[2]["why"]).endswith("onnxruntime-cuda: no GPU for onnxruntime-cuda")


def test_the_last_candidate_says_itself_what_it_lacks(bundle: Bundle) -> None:
    def refuse(*_: object) -> Any:
        raise RuntimeUnavailable("no such library", fix="install it")

    last = dataclasses.replace(by_rank()[-1], check=refuse)
    assert open_fastest(choose(bundle), [last]).describe()["runtime"] == last.name
    with pytest.raises(RuntimeUnavailable, match="no such library"):
        open_fastest(choose(bundle), [dataclasses.replace(last, make=refuse)])


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
