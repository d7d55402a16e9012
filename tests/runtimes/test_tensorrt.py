"""Plans run on GPUs only: here on a fake GPU and a fake TensorRT, which draw what ONNX Runtime draws.

With a GPU: python -m pytest -m gpu tests/runtimes/test_tensorrt.py
"""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest

from pahi_rt import runtimes
from pahi_rt.bundle import Bundle, file_record, open_bundle, write_manifest
from pahi_rt.choice import AUTO, choose
from pahi_rt.errors import BundleError, RuntimeUnavailable
from pahi_rt.manifest import Plan
from pahi_rt.noise import draw_noise
from pahi_rt.runtimes.costs import Cost, remember
from pahi_rt.runtimes.cuda import Cuda
from pahi_rt.runtimes.tensorrt import RuntimeCache, TensorRtRuntime, split
from tests.runtimes.crowd import Crowd, run_at_once

VERSION = "1.7.1"


class FakeCuda:
    """Memory by address; work is done when it is enqueued. A capture replays the same calls."""

    compute_capability = "86"
    stream = 7

    def __init__(self) -> None:
        self.memory: dict[int, np.ndarray] = {}
        self.calls: list[str] = []

    def allocate(self, size: int) -> int:
        self.memory[1000 + len(self.memory)] = np.zeros(size, np.uint8)
        return 999 + len(self.memory)

    def allocate_host(self, shape: tuple[int, ...], dtype: str) -> np.ndarray:
        return np.zeros(shape, dtype)

    def upload(self, source: np.ndarray, address: int) -> None:
        self.memory[address][: source.nbytes] = source.reshape(-1).view(np.uint8)

    def download(self, address: int, target: np.ndarray) -> None:
        target.reshape(-1).view(np.uint8)[:] = self.memory[address][: target.nbytes]

    def capture(self, work: Callable[[], None]) -> Callable[[], None]:
        self.calls.append("capture")
        return work

    def wait(self) -> None:
        self.calls.append("wait")


class FakeContext:
    """Draws with ONNX Runtime, from and to the fake GPU's memory."""

    def __init__(self, bundle: Bundle, cuda: FakeCuda) -> None:
        self.runtime, self.cuda = runtimes.load(bundle, 2, "onnxruntime"), cuda
        self.shapes: dict[str, tuple[int, ...]] = {}
        self.addresses: dict[str, int] = {}
        self.batches: list[int] = []
        self.picture: Any = next(g for g in bundle.manifest.graphs if g.steps == 2).outputs[0].shape[1:]
        self.capturable = True
        self.log: Any = None

    def set_input_shape(self, name: str, shape: tuple[int, ...]) -> bool:
        self.shapes[name] = tuple(shape)
        return shape[0] <= 4

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        return (self.shapes["noise"][0], *self.picture)

    def is_stream_capturable(self, stream: int) -> bool:
        return self.capturable

    def set_tensor_address(self, name: str, address: int) -> None:
        self.addresses[name] = address

    def read(self, name: str, dtype: str) -> np.ndarray:
        shape = self.shapes[name]
        size = int(np.prod(shape)) * np.dtype(dtype).itemsize
        return self.cuda.memory[self.addresses[name]][:size].view(dtype).reshape(shape)

    def execute_async_v3(self, stream: int) -> bool:
        assert stream == self.cuda.stream
        names = {"input_ids": "int64", "noise": "float32", "prior_strength": "float32"}
        pictures = self.runtime.run(*(self.read(name, dtype) for name, dtype in names.items()))
        self.batches.append(len(pictures))
        self.cuda.memory[self.addresses["image"]][: pictures.nbytes] = pictures.reshape(-1)
        return True


@pytest.fixture
def with_plan(folder: Path) -> Bundle:
    """A bundle that lists a plan of its two-step graph, for batches of 2 to 4."""
    (folder / "engines").mkdir()
    (folder / "engines" / "x.plan").write_bytes(b"a plan")
    bundle = open_bundle(folder)
    sha256 = bundle.manifest.files["two-step.onnx"].sha256
    engine = Plan("engines/x.plan", "two-step.onnx", sha256, "tensorrt-rtx", VERSION, ("86", "89"), (2, 2, 4))
    return list_engine(bundle, engine)


def list_engine(bundle: Bundle, engine: Plan) -> Bundle:
    files = {**bundle.manifest.files, engine.file: file_record(bundle.path / engine.file)}
    write_manifest(bundle.path, dataclasses.replace(bundle.manifest, engines=(engine,), files=files))
    return open_bundle(bundle.path)


@pytest.fixture
def cuda() -> FakeCuda:
    return FakeCuda()


@pytest.fixture
def context(with_plan: Bundle, cuda: FakeCuda, monkeypatch: pytest.MonkeyPatch) -> FakeContext:
    """What the fake TensorRT makes of the plan."""
    made = FakeContext(with_plan, cuda)
    engine = SimpleNamespace(create_execution_context=lambda: made)

    def start(log: Any) -> Any:
        made.log = log

        def load(plan: bytes) -> Any:
            if plan == b"a plan":
                return engine
            log.log(1, "wrong magicTag.\nin runtime.cpp")
            return None

        return SimpleNamespace(deserialize_cuda_engine=load)

    fake = ModuleType("tensorrt_rtx")
    fake.__dict__.update(__version__=VERSION, ILogger=type("ILogger", (), {"ERROR": 1}), Runtime=start)
    monkeypatch.setitem(sys.modules, "tensorrt_rtx", fake)
    return made


def open_plan(bundle: Bundle, cuda: FakeCuda, **options: Any) -> TensorRtRuntime:
    return TensorRtRuntime(choose(bundle, **{"steps": 2, "runtime": "tensorrt-rtx", **options}), cuda=cuda)  # type: ignore[arg-type]


def inputs(count: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    input_ids = np.arange(count * 24, dtype=np.int64).reshape(count, 24)
    return input_ids, draw_noise(range(count), (4, 4, 4)), np.linspace(0, 1, count, dtype=np.float32)


@pytest.mark.parametrize("count", [1, 2, 3, 4, 5, 9])
def test_pictures_of_any_number(with_plan: Bundle, cuda: FakeCuda, context: FakeContext, count: int) -> None:
    drawn = open_plan(with_plan, cuda).run(*inputs(count))
    np.testing.assert_array_equal(drawn, runtimes.load(with_plan, 2, "onnxruntime").run(*inputs(count)))
    assert set(context.batches) <= {2, 3, 4}  # what the plan takes


def test_work_is_captured_once_for_each_size(with_plan: Bundle, cuda: FakeCuda, context: FakeContext) -> None:
    runtime = open_plan(with_plan, cuda)
    for count in (2, 2, 1, 4, 2, 4):
        runtime.run(*inputs(count))
    assert cuda.calls.count("capture") == 2


def test_a_plan_that_cannot_be_captured_is_run_each_time(
    with_plan: Bundle, cuda: FakeCuda, context: FakeContext
) -> None:
    context.capturable = False
    runtime = open_plan(with_plan, cuda)
    first, again = runtime.run(*inputs(2)), runtime.run(*inputs(2))
    assert np.array_equal(first, again)
    assert (context.batches, cuda.calls.count("capture")) == ([2, 2, 2], 0)


def test_pictures_are_the_callers_own(with_plan: Bundle, cuda: FakeCuda, context: FakeContext) -> None:
    runtime = open_plan(with_plan, cuda)
    first = runtime.run(*inputs(2))
    kept = first.copy()
    runtime.run(*(rows[::-1] for rows in inputs(2)))
    assert np.array_equal(first, kept)


def test_threads_take_turns(
    with_plan: Bundle, cuda: FakeCuda, context: FakeContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A second one would write into the buffers that the first one draws from."""
    runtime, expected = open_plan(with_plan, cuda), runtimes.load(with_plan, 2, "onnxruntime")
    crowd = Crowd(context.execute_async_v3)
    monkeypatch.setattr(context, "execute_async_v3", crowd)
    for count, drawn in zip((2, 4), run_at_once(runtime.run, [inputs(2), inputs(4)]), strict=True):
        np.testing.assert_array_equal(drawn, expected.run(*inputs(count)))
    assert not crowd.met


def test_a_plan_of_other_shapes_than_its_graph(with_plan: Bundle, cuda: FakeCuda, context: FakeContext) -> None:
    context.picture = (512, 512, 3)
    with pytest.raises(BundleError, match="the plan has other shapes than its graph"):
        open_plan(with_plan, cuda).run(*inputs(2))


def test_it_says_what_it_is(with_plan: Bundle, cuda: FakeCuda, context: FakeContext) -> None:
    described = open_plan(with_plan, cuda).describe()
    assert list(described) == ["runtime", "version", "device", "precision", "threads"]
    assert described["device"] == "CUDA, compute capability 86"


def test_a_plan_that_does_not_run(
    with_plan: Bundle, cuda: FakeCuda, context: FakeContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(context, "execute_async_v3", lambda stream: context.log.log(0, "out of memory"))
    with pytest.raises(RuntimeUnavailable, match="cannot run its plan: out of memory"):
        open_plan(with_plan, cuda).run(*inputs(2))


@pytest.mark.parametrize(
    ("change", "what"),
    [
        ({"runtime_version": "1.6"}, "it is of version 1.6, and 1.7.1 is installed"),
        ({"compute_capabilities": ("89", "120")}, "it is for the compute capability 89, 120, and this GPU has 86"),
        ({"graph_sha256": "0" * 64}, "two-step.onnx was exported again since it was built"),
        ({"runtime": "tensorrt"}, "none was built"),
        ({"graph": "one-step.onnx"}, "none was built"),
    ],
)
def test_a_plan_that_does_not_fit(
    with_plan: Bundle, cuda: FakeCuda, context: FakeContext, change: dict[str, Any], what: str
) -> None:
    (engine,) = with_plan.manifest.engines
    bundle = list_engine(with_plan, dataclasses.replace(engine, **change))
    with pytest.raises(RuntimeUnavailable, match=f"no tensorrt-rtx plan of bundle 'contract' fits: {what}") as caught:
        open_plan(bundle, cuda)
    words = "--engine tensorrt-rtx --precision fp32 --compute-capability 86"
    assert caught.value.fix == f"pahi-rt build {bundle.path} {words}"


def test_a_plan_that_was_tampered_with(with_plan: Bundle, cuda: FakeCuda, context: FakeContext) -> None:
    (with_plan.path / "engines" / "x.plan").write_bytes(b"a plot")
    with pytest.raises(BundleError, match="has been changed"):
        open_plan(with_plan, cuda)


def test_a_plan_that_cannot_be_loaded(with_plan: Bundle, cuda: FakeCuda, context: FakeContext) -> None:
    (with_plan.path / "engines" / "x.plan").write_bytes(b"other")
    with pytest.raises(BundleError, match=r"TensorRT cannot load .*x.plan: wrong magicTag\. \(fix"):
        open_plan(list_engine(with_plan, with_plan.manifest.engines[0]), cuda)


def test_standard_output_is_left_to_pictures(
    with_plan: Bundle, cuda: FakeCuda, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """The real TensorRT, on a plan that is none. It needs no GPU to refuse it."""
    version = pytest.importorskip("tensorrt_rtx").__version__
    (engine,) = with_plan.manifest.engines
    with pytest.raises(BundleError, match=r"TensorRT cannot load .*x.plan: .*Error Code 1"):
        open_plan(list_engine(with_plan, dataclasses.replace(engine, runtime_version=version)), cuda)
    assert capfd.readouterr().out == ""


@pytest.mark.parametrize("runtime", ["tensorrt-rtx", AUTO])
def test_a_number_of_cores_does_not_keep_a_plan_from_drawing(
    with_plan: Bundle, cuda: FakeCuda, context: FakeContext, monkeypatch: pytest.MonkeyPatch, runtime: str
) -> None:
    """`bulk` and the workers of `serve` always have one."""
    monkeypatch.setattr("pahi_rt.runtimes.tensorrt.Cuda", lambda: cuda)
    chosen = choose(with_plan, steps=2, threads=1, runtime=runtime)
    remember(chosen, "tensorrt-rtx", Cost(0, 0, 0))
    described = runtimes.open_chosen(chosen).describe()
    assert (described["runtime"], described["threads"]) == ("tensorrt-rtx", 0)


@pytest.mark.parametrize(
    ("options", "what"),
    [
        ({"steps": 3}, "no graph of 3 steps"),
        ({"prior": "hi"}, "has no prior 'hi'"),
        ({"precision": "fp16"}, "has no precision 'fp16'"),
    ],
)
def test_wrong_wishes(
    with_plan: Bundle, cuda: FakeCuda, context: FakeContext, options: dict[str, Any], what: str
) -> None:
    with pytest.raises(BundleError, match=what):
        open_plan(with_plan, cuda, **options)


def test_a_plan_of_the_precision_that_is_asked_for(with_plan: Bundle, cuda: FakeCuda, context: FakeContext) -> None:
    own = with_plan.manifest.graphs
    default = [dataclasses.replace(graph, file=f"other-{graph.file}") for graph in own]
    half = [dataclasses.replace(graph, precision="fp16") for graph in own]
    bundle = Bundle(with_plan.path, dataclasses.replace(with_plan.manifest, graphs=(*default, *half)))
    assert open_plan(bundle, cuda, precision="fp16").describe()["precision"] == "fp16"
    with pytest.raises(RuntimeUnavailable, match="none was built") as caught:
        open_plan(bundle, cuda)
    assert "--precision fp32" in caught.value.fix


def test_a_plan_of_the_built_in_bundle_is_built_in_a_copy(cuda: FakeCuda, context: FakeContext) -> None:
    with pytest.raises(RuntimeUnavailable) as caught:
        open_plan(open_bundle("emoji"), cuda, steps=1)
    assert caught.value.fix.startswith("cp -r ") and " && pahi-rt build my-emoji " in caught.value.fix


def test_a_cache_that_cannot_be_written_is_done_without(
    with_plan: Bundle, cuda: FakeCuda, context: FakeContext, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert open_plan(with_plan, cuda).run(*inputs(2)).shape[0] == 2


def test_turns() -> None:
    rows = {"a": np.arange(5), "b": np.arange(10).reshape(5, 2)}
    assert [turn["a"].tolist() for turn in split(rows, 2)] == [[0, 1], [2, 3], [4]]
    assert [len(turn["b"]) for turn in split(rows, 5)] == [5]


def test_kernels_are_kept(cache: Path) -> None:
    """The cache belongs to the plan: it is read back by the next process."""

    class Kernels:
        content = b""

        def serialize(self) -> bytes:
            return b"kernels"

        def deserialize(self, content: bytes) -> bool:
            self.content = content
            return True

    def engine(kernels: Kernels) -> Any:
        config = SimpleNamespace(create_runtime_cache=lambda: kernels, set_runtime_cache=lambda given: None)
        return SimpleNamespace(create_runtime_config=lambda: config)

    first, second = Kernels(), Kernels()
    for kernels in (first, second):
        kept = RuntimeCache("ab" * 32, "tensorrt-rtx")
        config = kept.attach(pytest.importorskip("tensorrt_rtx"), engine(kernels))
        assert config.dynamic_shapes_kernel_specialization_strategy.name == "EAGER"
        kept.save()
    assert (first.content, second.content) == (b"", b"kernels")
    assert kept.path.parent == cache.with_name("tensorrt-rtx")
    assert [path.name for path in kept.path.parent.iterdir()] == [kept.path.name]


@pytest.mark.parametrize("flavour", ["tensorrt", "tensorrt-rtx"])
def test_not_installed(contract: Path, flavour: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, flavour.replace("-", "_"), None)
    with pytest.raises(RuntimeUnavailable, match=f"{flavour} cannot be loaded") as caught:
        runtimes.load(open_bundle(contract), name=flavour)
    assert caught.value.fix.startswith("pip install")


@pytest.mark.gpu
@pytest.mark.parametrize("steps", [1, 2])
def test_on_a_gpu(folder: Path, steps: int) -> None:
    pytest.importorskip("tensorrt_rtx")
    from pahi_rt.export.plans import add_plans
    from pahi_rt.export.tensorrt import PlanSettings

    bundle = add_plans(str(folder), PlanSettings(compute_capabilities=(Cuda().compute_capability,)))
    runtime = runtimes.load(bundle, steps=steps, name="tensorrt-rtx")
    for count in (1, 3, 9):
        drawn, expected = runtime.run(*inputs(count)), runtimes.load(bundle, steps, "onnxruntime").run(*inputs(count))
        assert np.abs(drawn.astype(int) - expected).max() <= 2
