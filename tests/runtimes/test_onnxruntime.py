"""ONNX Runtime and its execution providers: those of GPUs on fakes, which say what ONNX Runtime was asked for.

With a GPU: python -m pytest -m gpu tests/runtimes/test_onnxruntime.py
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest

from pahi_rt import runtimes
from pahi_rt.bundle import file_record, open_bundle
from pahi_rt.errors import BundleError, RuntimeUnavailable
from pahi_rt.noise import draw_noise
from pahi_rt.runtimes.providers import PROVIDERS
from tests.graph_bytes import INT64, UINT8, field, model, node, tensor, write_bundle

Edit = Callable[[Callable[[dict[str, Any]], object]], Path]
TO_UINT8 = field(5, field(1, "to") + field(3, UINT8) + field(20, 2))


def test_describe(contract: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import onnxruntime

    monkeypatch.setattr("pahi_rt.machine.runnable_tasks", lambda: 1)
    assert runtimes.load(open_bundle(contract), name="onnxruntime", threads=2).describe() == {
        "runtime": "onnxruntime",
        "version": onnxruntime.__version__,
        "device": "CPU",
        "precision": "fp32",
        "threads": 2,
    }


def test_threads_reach_the_session(contract: Path) -> None:
    runtime: Any = runtimes.load(open_bundle(contract), name="onnxruntime", threads=1)
    assert runtime.session.get_session_options().intra_op_num_threads == 1
    with pytest.raises(RuntimeUnavailable, match="0 threads"):
        runtimes.load(open_bundle(contract), name="onnxruntime", threads=0)


def test_threads_sleep_between_pictures(contract: Path) -> None:
    runtime: Any = runtimes.load(open_bundle(contract), name="onnxruntime")
    options = runtime.session.get_session_options()
    assert options.get_session_config_entry("session.force_spinning_stop") == "1"


@pytest.mark.parametrize(("others", "threads", "sleeps"), [(0, None, False), (1, None, True), (0, 1, False)])
def test_threads_sleep_where_a_core_is_taken(
    contract: Path, monkeypatch: pytest.MonkeyPatch, others: int, threads: int | None, sleeps: bool
) -> None:
    monkeypatch.setattr("os.sched_getaffinity", lambda process: {0, 1}, raising=False)
    monkeypatch.setattr("os.cpu_count", lambda: 2)
    monkeypatch.setattr("pahi_rt.machine.runnable_tasks", lambda: 1 + others)
    runtime: Any = runtimes.load(open_bundle(contract), name="onnxruntime", threads=threads)
    options = runtime.session.get_session_options()
    if sleeps:
        assert options.get_session_config_entry("session.intra_op.allow_spinning") == "0"
    else:
        with pytest.raises(RuntimeError, match="allow_spinning"):
            options.get_session_config_entry("session.intra_op.allow_spinning")
    assert ("waiting" in runtime.describe()) == sleeps


def test_onnxruntime_is_not_installed(contract: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(RuntimeUnavailable) as caught:
        runtimes.load(open_bundle(contract))
    assert caught.value.fix.startswith("pip install")


def test_names() -> None:
    assert [name for name in runtimes.NAMES if name.startswith("onnxruntime")] == list(PROVIDERS)


@pytest.mark.parametrize("name", ["onnxruntime-cuda", "onnxruntime-tensorrt"])
def test_a_provider_that_is_not_there(contract: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    import onnxruntime

    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: ["CPUExecutionProvider"])
    with pytest.raises(RuntimeUnavailable, match=f"no {PROVIDERS[name].name}") as caught:
        runtimes.load(open_bundle(contract), name=name)
    assert "pip install 'onnxruntime-gpu[cuda,cudnn]'" in caught.value.fix


def test_a_provider_that_does_not_start(contract: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import onnxruntime

    monkeypatch.setattr(onnxruntime.InferenceSession, "get_providers", lambda self: ["OtherExecutionProvider"])
    with pytest.raises(RuntimeUnavailable) as caught:
        runtimes.load(open_bundle(contract), name="onnxruntime")
    assert caught.value.fix == "pip install --force-reinstall onnxruntime"


def test_steps_that_the_bundle_does_not_have(contract: Path) -> None:
    with pytest.raises(BundleError, match="no graph of 3 steps"):
        runtimes.load(open_bundle(contract), steps=3)


class FakeBuild:
    """An ONNX Runtime with all providers: sessions compute on the CPU, and say that they do what was asked for.

    `devices` are those that a plugin finds once it is registered.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        import onnxruntime

        self.session_class, self.options_class = onnxruntime.InferenceSession, onnxruntime.SessionOptions
        self.asked: Any = None
        self.used: tuple[list[str], dict[str, str]] = ([], {})
        self.options: Any = None
        self.session_error: Exception | None = None
        self.register_error: Exception | None = None
        self.provider = ""
        self.devices: list[Any] = []
        self.registered: list[tuple[str, str]] = []
        monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: [p.name for p in PROVIDERS.values()])
        monkeypatch.setattr(onnxruntime, "preload_dlls", lambda directory: print("libcublas.so.13 not found"))
        monkeypatch.setattr(onnxruntime, "InferenceSession", self.open)
        monkeypatch.setattr(onnxruntime, "SessionOptions", self.make_options)
        monkeypatch.setattr(onnxruntime, "get_ep_devices", lambda: self.devices if self.registered else [])
        monkeypatch.setattr(onnxruntime, "register_execution_provider_library", self.register)
        monkeypatch.setattr("pahi_rt.runtimes.cuda.read_capability", lambda: "86")
        monkeypatch.delenv("NVIDIA_TF32_OVERRIDE", raising=False)
        plugin = ModuleType("onnxruntime_ep_nv_tensorrt_rtx")
        plugin.__dict__.update(__version__="0.5.0", get_library_path=lambda: "/plugin.so")
        monkeypatch.setitem(sys.modules, plugin.__name__, plugin)

    def register(self, name: str, path: str) -> None:
        self.registered.append((name, path))
        if self.register_error:
            raise self.register_error

    def make_options(self) -> Any:
        build, options_class = self, self.options_class

        class Options(options_class):  # type: ignore[misc, valid-type]
            def add_session_config_entry(self, key: str, value: str) -> None:
                build.entries[key] = value
                if key == "session.model_external_initializers_file_folder_path":
                    super().add_session_config_entry(key, value)

            def add_provider_for_devices(self, devices: list[Any], settings: dict[str, str]) -> None:
                build.used = ([device.ep_name for device in devices], settings)

        self.entries: dict[str, str] = {}
        return Options()

    def open(self, model: str | bytes, options: Any, providers: Any, enable_fallback: int) -> Any:
        assert not enable_fallback
        if self.session_error:
            raise self.session_error
        self.asked = providers
        session = self.session_class(model, options, providers=["CPUExecutionProvider"])
        names = [providers[0][0]] if providers else self.used[0]
        session.get_providers = lambda: [self.provider or names[0], "CPUExecutionProvider"]
        return session


@pytest.fixture
def build(monkeypatch: pytest.MonkeyPatch) -> FakeBuild:
    fake = FakeBuild(monkeypatch)
    fake.devices = [SimpleNamespace(ep_name="CPUExecutionProvider")]
    fake.devices += [SimpleNamespace(ep_name="NvTensorRTRTXExecutionProvider") for _ in range(2)]
    return fake


def test_cuda_is_asked_for_without_tf32(contract: Path, build: FakeBuild, capsys: pytest.CaptureFixture[str]) -> None:
    runtime = runtimes.load(open_bundle(contract), name="onnxruntime-cuda")
    options = {"use_tf32": "0", "cudnn_conv_algo_search": "HEURISTIC", "enable_cuda_graph": "1"}
    assert build.asked == [("CUDAExecutionProvider", options)]
    assert "session.disable_cpu_ep_fallback" not in build.entries
    described = runtime.describe()
    assert (described["runtime"], described["device"]) == ("onnxruntime-cuda", "CUDA, compute capability 86")
    assert capsys.readouterr().out == ""


def test_tensorrt_keeps_its_engines(contract: Path, build: FakeBuild, cache: Path) -> None:
    runtimes.load(open_bundle(contract), name="onnxruntime-tensorrt")
    (folder,) = cache.with_name("onnxruntime-tensorrt").iterdir()
    options = {"trt_engine_cache_enable": "1", "trt_engine_cache_path": str(folder)}
    assert build.asked == [("TensorrtExecutionProvider", options)]
    assert build.entries["session.disable_cpu_ep_fallback"] == "1"
    assert os.environ["NVIDIA_TF32_OVERRIDE"] == "0"


def test_the_plugin_is_registered_once_and_keeps_its_engines(contract: Path, build: FakeBuild, cache: Path) -> None:
    bundle = open_bundle(contract)
    described = [runtimes.load(bundle, name="onnxruntime-tensorrt-rtx").describe() for _ in range(2)][0]
    assert described["runtime"] == "onnxruntime-tensorrt-rtx"
    assert described["device"] == "NvTensorRTRTX, compute capability 86"
    assert build.registered == [("NvTensorRTRTXExecutionProvider", "/plugin.so")]
    (folder,) = cache.with_name("onnxruntime-tensorrt-rtx").iterdir()
    assert build.used == (["NvTensorRTRTXExecutionProvider"], {"nv_runtime_cache_path": str(folder)})
    assert build.asked is None
    assert build.entries["session.disable_cpu_ep_fallback"] == "1"


@pytest.mark.parametrize("name", ["onnxruntime-tensorrt", "onnxruntime-tensorrt-rtx"])
@pytest.mark.parametrize("file", ["one-step.onnx", "weights.bin"])
def test_a_graph_exported_again_has_engines_of_its_own(
    folder: Path, edit: Edit, build: FakeBuild, cache: Path, name: str, file: str
) -> None:
    engines = cache.with_name(name)
    for _ in range(2):
        runtimes.load(open_bundle(folder), name=name)
    assert len(list(engines.iterdir())) == 1
    with (folder / file).open("r+b") as changed:
        content = changed.read()
        changed.seek(0)
        changed.write(_exported_again(file, content))
    edit(lambda data: data["files"].update({file: file_record(folder / file).to_dict()}))
    runtimes.load(open_bundle(folder), name=name)
    assert len(list(engines.iterdir())) == 2


def _exported_again(file: str, content: bytes) -> bytes:
    """Other weights, or the graph with one more, empty field: doc_string."""
    return content + b"\x32\x00" if file.endswith(".onnx") else content[:-4] + bytes(4)


def test_another_version_has_engines_of_its_own(contract: Path, build: FakeBuild, cache: Path) -> None:
    runtimes.load(open_bundle(contract), name="onnxruntime-tensorrt-rtx")
    sys.modules["onnxruntime_ep_nv_tensorrt_rtx"].__dict__["__version__"] = "0.6.0"
    runtimes.load(open_bundle(contract), name="onnxruntime-tensorrt-rtx")
    assert len(list(cache.with_name("onnxruntime-tensorrt-rtx").iterdir())) == 2


def test_no_cache_where_nothing_can_be_written(contract: Path, build: FakeBuild, cache: Path) -> None:
    cache.parent.write_text("in the way")
    runtimes.load(open_bundle(contract), name="onnxruntime-tensorrt")
    assert build.asked == [("TensorrtExecutionProvider", {})]


@pytest.mark.parametrize("name", [name for name in PROVIDERS if name != "onnxruntime"])
def test_another_provider_never_stands_in(contract: Path, build: FakeBuild, name: str) -> None:
    build.provider = "CPUExecutionProvider"
    with pytest.raises(RuntimeUnavailable, match=f"{PROVIDERS[name].name} cannot start on this machine") as caught:
        runtimes.load(open_bundle(contract), name=name)
    assert caught.value.fix


def test_a_library_that_is_missing_is_named(contract: Path, build: FakeBuild) -> None:
    """The CPU's build has no file of CUDA's provider, so the loader says so."""
    build.provider = "CPUExecutionProvider"
    with pytest.raises(RuntimeUnavailable, match=r"providers_cuda\.so: cannot open shared object file") as caught:
        runtimes.load(open_bundle(contract), name="onnxruntime-cuda")
    assert caught.value.fix == PROVIDERS["onnxruntime-cuda"].install


def test_the_plugin_is_not_installed(contract: Path, build: FakeBuild, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime_ep_nv_tensorrt_rtx", None)
    with pytest.raises(RuntimeUnavailable, match="NvTensorRTRTXExecutionProvider cannot be loaded") as caught:
        runtimes.load(open_bundle(contract), name="onnxruntime-tensorrt-rtx")
    assert caught.value.fix.endswith("pip install 'onnxruntime>=1.24' onnxruntime-ep-nv-tensorrt-rtx")


def test_the_plugins_library_does_not_load(contract: Path, build: FakeBuild) -> None:
    """Its words without a driver, as of 0.5.0."""
    missing = "libcuda.so.1: cannot open shared object file: No such file or directory"
    build.register_error = _failure(f"Failed to load library /plugin.so with error: {missing}")
    with pytest.raises(RuntimeUnavailable) as caught:
        runtimes.load(open_bundle(contract), name="onnxruntime-tensorrt-rtx")
    reason = f"Failed to load library /plugin.so with error: {missing}"
    assert caught.value.what == f"NvTensorRTRTXExecutionProvider cannot be loaded: {reason}"
    assert "driver" in caught.value.fix


@pytest.mark.parametrize("error", [None, "library is already registered under NvTensorRTRTXExecutionProvider"])
def test_the_plugin_finds_no_gpu(contract: Path, build: FakeBuild, error: str | None) -> None:
    build.devices, build.register_error = build.devices[:1], _failure(error) if error else None
    with pytest.raises(RuntimeUnavailable, match="finds no GPU"):
        runtimes.load(open_bundle(contract), name="onnxruntime-tensorrt-rtx")


def test_nodes_that_the_gpu_does_not_take(contract: Path, build: FakeBuild) -> None:
    words = "This session contains graph nodes that are assigned to the default CPU EP, but fallback is disabled"
    build.session_error = _failure(words)
    with pytest.raises(RuntimeUnavailable, match=f"cannot run .*one-step.onnx: {words}") as caught:
        runtimes.load(open_bundle(contract), name="onnxruntime-tensorrt-rtx")
    assert "[ONNXRuntimeError]" not in caught.value.what


def test_a_damaged_graph_is_not_the_gpus_fault(contract: Path, build: FakeBuild) -> None:
    from onnxruntime.capi.onnxruntime_pybind11_state import InvalidProtobuf

    build.session_error = InvalidProtobuf("[ONNXRuntimeError] : 7 : INVALID_PROTOBUF : Protobuf parsing failed.")
    with pytest.raises(BundleError, match=r"cannot load .*one-step.onnx: Protobuf parsing failed\."):
        runtimes.load(open_bundle(contract), name="onnxruntime-cuda")


def test_a_graph_that_fails_while_it_draws(contract: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Token ids that are no place among three values, and 3 TB: what is known at run time alone.

    ONNX Runtime's own lines about it do not reach the screen.
    """
    lookup = model([node("Gather", ["w", "input_ids"], ["image"])], [tensor("w", [3], UINT8, bytes(3))])
    sizes = b"".join(size.to_bytes(8, "little") for size in (1, 10**6, 10**6, 3))
    nodes = [node("ConstantOfShape", ["sizes"], ["zeros"]), node("Cast", ["zeros"], ["image"], TO_UINT8)]
    huge = model(nodes, [tensor("sizes", [4], INT64, sizes)])
    for number, (graph, words) in enumerate(((lookup, "out of data bounds"), (huge, "Failed to allocate memory"))):
        bundle = open_bundle(write_bundle(contract, tmp_path / str(number), graph))
        try:
            runtime = runtimes.load(bundle, name="onnxruntime")
        except BundleError as error:  # ONNX Runtime 1.24 computes the 3 TB while it loads the graph
            assert "bad_alloc" in error.what
            continue
        noise = draw_noise([0], (4, 4, 4))
        with pytest.raises(RuntimeUnavailable, match=f"cannot draw a batch of 1: .*{words}") as caught:
            runtime.run(np.full((1, 24), 99, np.int64), noise, np.ones(1, np.float32))
        assert "\n" not in caught.value.what
    assert capfd.readouterr() == ("", "")


def _failure(words: str) -> Exception:
    from onnxruntime.capi.onnxruntime_pybind11_state import Fail

    return Fail(f"[ONNXRuntimeError] : 1 : FAIL : {words}")


@pytest.mark.gpu
@pytest.mark.parametrize("name", [name for name in PROVIDERS if name != "onnxruntime"])
@pytest.mark.parametrize("steps", [1, 2])
def test_a_gpu_draws_what_the_cpu_draws(contract: Path, name: str, steps: int) -> None:
    bundle = open_bundle(contract)
    try:
        runtime = runtimes.load(bundle, name=name, steps=steps)
    except RuntimeUnavailable as error:
        pytest.skip(error.what)
    reference = runtimes.load(bundle, name="onnxruntime", steps=steps)
    for count in (1, 3, 9):
        input_ids = np.arange(count * 24, dtype=np.int64).reshape(count, 24)
        rows = input_ids, draw_noise(range(count), (4, 4, 4)), np.full(count, 0.5, np.float32)
        assert np.abs(runtime.run(*rows).astype(int) - reference.run(*rows)).max() <= 2
