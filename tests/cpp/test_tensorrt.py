"""The C library's TensorRT backend, compiled with TensorRT's and CUDA's own headers.

It runs on a fake of both that draws without a GPU: that the right plan is chosen, and that each input comes where it
belongs. And with CUDA's own library, which says that there is no GPU.
"""

from __future__ import annotations

import ctypes
import json
import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from pahi_rt.bundle import file_record, open_bundle
from pahi_rt.manifest import Graph, Plan
from pahi_rt.noise import draw_noise
from pahi_rt.tokenizer import Tokenizer
from tests.cpp.library import DEPENDENCIES, NVIDIA, Failed, Library, Log, build, run

pytestmark = [
    pytest.mark.cpp,
    pytest.mark.skipif(not DEPENDENCIES.is_dir(), reason=f"there is no {DEPENDENCIES}: run make .venv/.cpp"),
    pytest.mark.skipif(not NVIDIA.is_dir(), reason=f"there is no {NVIDIA}: run make .venv/.cpp"),
]

FAKES = Path(__file__).parent / "fake_gpu"
EMOJI = open_bundle("emoji")
TYPES = {"float32": 0, "uint8": 5, "int64": 8}
"""Numbers of nvinfer1::DataType."""
CUDART, NVINFER = "libcudart.so.13", "libnvinfer.so"
VERSION = "10.14.1.48.post1"
OPTIONS = {"runtime": b"tensorrt"}


@pytest.fixture(scope="module")
def fakes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with TensorRT and CUDA."""
    folder = tmp_path_factory.mktemp("fakes")
    include = NVIDIA / "tensorrt"
    (folder / "stubs.hpp").write_text(stubs((include / "NvInferImpl.h").read_text(encoding="utf-8")))
    headers = [f"-isystem{include}", f"-isystem{NVIDIA / 'cuda' / 'include'}", f"-isystem{folder}"]
    for source, name, *needed in (("cuda", CUDART), ("tensorrt", NVINFER, str(folder / CUDART))):
        flags = ["-std=c++17", "-O1", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC", f"-Wl,-soname,{name}"]
        run(["c++", *flags, *headers, str(FAKES / f"{source}.cpp"), *needed, "-o", str(folder / name)])
    return folder


@pytest.fixture(scope="module")
def options(fakes: Path) -> list[str]:
    """CMake's."""
    return [
        *("-DCMAKE_CXX_FLAGS=-Werror", "-DCMAKE_C_FLAGS=-Werror", "-DPAHI_TENSORRT=tensorrt"),
        f"-DTENSORRT_INCLUDE_DIR={NVIDIA / 'tensorrt'}",
        f"-DTENSORRT_LIBRARY={fakes / NVINFER}",
        f"-DCUDA_INCLUDE_DIR={NVIDIA / 'cuda' / 'include'}",
        f"-DCUDART_LIBRARY={fakes / CUDART}",
    ]


@pytest.fixture(scope="module")
def built(options: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.mktemp("tensorrt") / "build", *options)


@pytest.fixture(scope="module")
def library(built: Path) -> Library:
    return Library(built / "libpahi.so")


class Gpus:
    """The two fake ones."""

    def __init__(self, fakes: Path) -> None:
        self.cuda, self.tensorrt = ctypes.CDLL(str(fakes / CUDART)), ctypes.CDLL(str(fakes / NVINFER))

    @property
    def alive(self) -> int:
        """Objects that were not freed."""
        return int(self.cuda.fake_cuda_alive() + self.tensorrt.fake_tensorrt_alive())


@pytest.fixture
def gpus(fakes: Path, library: Library) -> Iterator[Gpus]:
    gpus = Gpus(fakes)
    yield gpus
    gpus.cuda.fake_cuda_fail(-1)
    gpus.cuda.fake_cuda_use(0)
    assert gpus.alive == 0
    assert gpus.tensorrt.fake_tensorrt_misplaced() == 0


@pytest.fixture
def bundle(copy: Path) -> Path:
    """The embedded model, with plans of its best graphs, for batches of 1 to 4 and of 2 to 4."""
    for steps, batch in ((1, (1, 2, 4)), (2, (2, 2, 4))):
        add_plan(copy, EMOJI.graph(steps, "pahi", None), batch)
    return copy


def add_plan(
    folder: Path,
    graph: Graph,
    batch: tuple[int, int, int],
    text: str | None = None,
    fields: dict[str, Any] | None = None,
) -> None:
    """`fields` take the place of those that fit."""
    path = folder / f"{graph.steps}.plan"
    path.write_text(describe_plan(graph, batch) if text is None else text)
    sha256 = EMOJI.manifest.files[graph.file].sha256
    engine = Plan(path.name, graph.file, sha256, "tensorrt", VERSION, ("86", "89"), batch)
    manifest = json.loads((folder / "pahi.json").read_text())
    manifest["engines"].append(asdict(engine) | (fields or {}))
    manifest["files"][path.name] = asdict(file_record(path))
    (folder / "pahi.json").write_text(json.dumps(manifest))


def describe_plan(graph: Graph, batch: tuple[int, int, int]) -> str:
    specs = [(spec, "in") for spec in graph.inputs] + [(spec, "out") for spec in graph.outputs]
    lines = [f"{spec.name} {mode} {TYPES[spec.dtype]} {' '.join(map(str, spec.shape[1:]))}" for spec, mode in specs]
    return "\n".join([f"fake {batch[0]} {batch[2]}", *lines])


def expected(prompt: str, seed: int, strength: float) -> NDArray[np.uint8]:
    """What the fake draws: the sum of all ids, a thousand times a noise value, and ten times the strength."""
    spec, image = EMOJI.manifest.tokenizer, EMOJI.manifest.image
    ids = Tokenizer(EMOJI.file(spec.file), spec.max_length, spec.pad_id).encode([prompt]).input_ids
    noise = np.abs(draw_noise([seed], image.latent_shape)).ravel()
    values = np.resize(noise * np.float32(1000), image.height * image.width * 3).astype(np.int64)
    total = ids.sum() + round(10 * strength) + values
    return (total % 256).astype(np.uint8).reshape(image.height, image.width, 3)


@pytest.mark.parametrize("steps", [1, 2])
def test_each_input_comes_where_it_belongs(library: Library, bundle: Path, gpus: Gpus, steps: int) -> None:
    opened = library.open(bundle, steps=steps, **OPTIONS)
    for prompt, seed, strength in (("a grinning cat", 7, 1.0), ("panda", 2**64 - 1, 0.5), ("rocket", 0, 0.0)):
        (picture,) = opened.draw(prompt, seed=seed, prior_strength=strength)
        assert np.array_equal(picture, expected(prompt, seed, strength))


def test_a_pipeline_stays_on_its_gpu(library: Library, bundle: Path, gpus: Gpus) -> None:
    gpus.cuda.fake_cuda_use(1)
    opened = library.open(bundle, **OPTIONS)
    gpus.cuda.fake_cuda_use(0)
    assert np.array_equal(opened.draw("panda", seed=3)[0], expected("panda", 3, 1.0))
    with ThreadPoolExecutor(1) as pool:  # of another thread, whose GPU is the first
        assert np.array_equal(pool.submit(opened.draw, "panda", seed=4).result()[0], expected("panda", 4, 1.0))
    del opened
    assert gpus.cuda.fake_cuda_current() == 0


def test_calls_that_fail_leave_nothing(library: Library, bundle: Path, gpus: Gpus) -> None:
    """Each call to CUDA in turn, until all of opening and drawing goes well."""
    seen = []
    for call in range(100):
        gpus.cuda.fake_cuda_fail(call)
        try:
            library.open(bundle, steps=2, **OPTIONS).draw("panda")
            break
        except Failed as error:
            seen.append(str(error))
        gpus.cuda.fake_cuda_fail(-1)
        assert gpus.alive == 0 and gpus.cuda.fake_cuda_last() == 0
    assert len(seen) > 15 and set(seen) == {"out of memory: CUDA: out of memory"}


def test_threads_take_turns(library: Library, bundle: Path) -> None:
    opened = library.open(bundle, **OPTIONS)
    with ThreadPoolExecutor(8) as pool:
        drawn = list(pool.map(lambda seed: opened.draw("panda", seed=seed)[0], range(64)))
    for seed, picture in enumerate(drawn):
        assert np.array_equal(picture, expected("panda", seed, 1.0))


def test_onnxruntime_is_there_too(library: Library, bundle: Path) -> None:
    assert not np.array_equal(library.open(bundle).draw("panda")[0], expected("panda", 0, 1.0))


@pytest.mark.parametrize("version", ["10.14.1", "10.14.1.48"])
def test_a_package_may_say_less_than_the_library(library: Library, copy: Path, version: str) -> None:
    graph = EMOJI.graph(1, "pahi", None)
    add_plan(copy, graph, (1, 1, 1), fields={"runtime_version": version})
    assert library.open(copy, **OPTIONS).draw("panda").any()


@pytest.mark.parametrize(
    "fields, message",
    [
        ({"compute_capabilities": ["89"]}, "1.plan is not for this GPU's compute capability, 86"),
        ({"runtime_version": "10.14.1.4"}, "1.plan is of version 10.14.1.4, and 10.14.1.48 is installed"),
        ({"runtime_version": "10.14"}, "1.plan is of version 10.14, and 10.14.1.48 is installed"),
        ({"graph_sha256": "0" * 64}, "one-step-pahi-w16.onnx was exported again since 1.plan was built"),
        ({"graph": "two-step-pahi-w16.onnx"}, "none was built"),
        ({"runtime": "tensorrt-rtx"}, "none was built"),
        ({"batch": [0, 1, 1]}, "makes no sense"),
        ({"compute_capabilities": "86"}, "cannot be read"),
    ],
)
def test_plans_that_do_not_fit(library: Library, copy: Path, fields: dict[str, Any], message: str) -> None:
    add_plan(copy, EMOJI.graph(1, "pahi", None), (1, 1, 1), fields=fields)
    with pytest.raises(Failed, match=f"bad bundle: .*{re.escape(message)}"):
        library.open(copy, **OPTIONS)


@pytest.mark.parametrize(
    "old, new, message",
    [
        ("input_ids in 8 28", "input_ids in 8 29", "input_ids is not what"),
        ("noise in 0", "noise in 1", "noise is not what"),
        ("noise in 0", "noise in-chw32 0", "noise is not what"),
        ("prior_strength in 0", "prior_strength in-host 0", "prior_strength is not what"),
        ("image out 5 128 128", "image out 5 128 129", "image is not what"),
        ("image out", "picture out", "image is not what"),
        ("prior_strength in 0 ", "", "not the inputs and outputs"),
        ("fake 1 4", "fake 2 4", "input_ids is not what"),
    ],
)
def test_plans_of_other_shapes(library: Library, copy: Path, gpus: Gpus, old: str, new: str, message: str) -> None:
    graph = EMOJI.graph(1, "pahi", None)
    text = describe_plan(graph, (1, 2, 4))
    assert old in text
    text = "\n".join(line for line in text.replace(old, new).splitlines() if line)
    add_plan(copy, graph, (1, 2, 4), text)
    with pytest.raises(Failed, match=f"bad bundle: .*{message}"):
        library.open(copy, **OPTIONS)


def test_what_tensorrt_says_is_heard(library: Library, copy: Path, gpus: Gpus) -> None:
    add_plan(copy, EMOJI.graph(1, "pahi", None), (1, 1, 1), "no plan")
    heard: list[tuple[int, str]] = []
    log = Log(lambda _, level, text: heard.append((level, text.decode())))
    with pytest.raises(Failed, match=r"runtime error: TensorRT cannot load .*1\.plan"):
        library.open(copy, log=log, **OPTIONS)
    assert heard == [(2, "Error Code 1: Serialization")]


def test_the_other_flavour_is_not_built_in(library: Library, bundle: Path) -> None:
    with pytest.raises(Failed, match="bad argument: this library was built without the runtime tensorrt-rtx"):
        library.open(bundle, runtime=b"tensorrt-rtx")


def test_without_a_gpu_cuda_says_so(built: Path, bundle: Path, tmp_path: Path) -> None:
    """On a machine with one, TensorRT's plan would be asked next."""
    words = [str(built / "pahi-generate"), str(bundle), "panda", "-o", str(tmp_path / "x.png"), "--runtime", "tensorrt"]
    with pytest.raises(RuntimeError, match="error: CUDA: "):
        run(words, LD_LIBRARY_PATH=str(NVIDIA / "cuda" / "lib"), CUDA_VISIBLE_DEVICES="-1")
    assert not (tmp_path / "x.png").exists()


@pytest.mark.slow
def test_sanitizers_find_nothing(options: list[str], bundle: Path, tmp_path: Path) -> None:
    folder = build(tmp_path / "build", *options, "-DPAHI_SANITIZE=ON", "-DCMAKE_BUILD_TYPE=Debug")
    words = [str(folder / "pahi-generate"), str(bundle), "panda", "-o", str(tmp_path / "x.png")]
    for steps in ("1", "2"):
        run([*words, "--runtime", "tensorrt", "--steps", steps], UBSAN_OPTIONS="halt_on_error=1")


def stubs(header: str) -> str:
    """Classes that end the program in every function which TensorRT's own leave open."""
    written = ["#include <cstdlib>\nnamespace nvinfer1::apiv {"]
    for name in ("Runtime", "CudaEngine", "ExecutionContext"):
        (body,) = re.findall(rf"^class V{name} : .*?^}};", header, re.DOTALL | re.MULTILINE)
        body = re.sub(r"^#if .*?^#endif", "", body, flags=re.DOTALL | re.MULTILINE)  # what this flavour lacks
        written.append(f"struct Stub{name} : V{name} {{")
        for function in re.findall(r"virtual ([^;{}~]*?)\s*= 0;", body):
            written.append(f"  {function} override {{ std::abort(); }}")
        written.append("};")
    return "\n".join([*written, "}", "using namespace nvinfer1::apiv;\n"])
