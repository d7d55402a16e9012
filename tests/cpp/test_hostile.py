"""Bundles of strangers: the C library reads no file but theirs, and ends neither the process nor never."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from pahi_rt.bundle import open_bundle
from tests.cpp.library import DEPENDENCIES, Failed, Library, build

pytestmark = [
    pytest.mark.cpp,
    pytest.mark.skipif(not DEPENDENCIES.is_dir(), reason=f"there is no {DEPENDENCIES}: run make .venv/.cpp"),
]

EMOJI = open_bundle("emoji").path
SIDE = 128
SIZE = SIDE * SIDE * 3
IMAGE = np.zeros((1, SIDE, SIDE, 3), np.uint8)


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.mktemp("build"), "-DCMAKE_CXX_FLAGS=-Werror")


@pytest.fixture(scope="module")
def library(built: Path) -> Library:
    return Library(built / "libpahi.so")


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    """A file beside the bundle, that no bundle may show."""
    path = tmp_path / "secret.bin"
    path.write_bytes((b"of another folder " * SIZE)[:SIZE])
    return path


def write_bundle(folder: Path, model: bytes, weights: Sequence[str] = (), **files: bytes) -> Path:
    """A bundle whose hashes are right; `files` without a dot in their name get ".bin"."""
    folder.mkdir(exist_ok=True)
    shutil.copyfile(EMOJI / "tokenizer.json", folder / "tokenizer.json")
    (folder / "g.onnx").write_bytes(model)
    for name, content in files.items():
        (folder / f"{name}.bin").write_bytes(content)
    manifest = json.loads((EMOJI / "pahi.json").read_text())
    ports = [("input_ids", "int64", ["batch", 24]), ("noise", "float32", ["batch", 4, 16, 16])]
    specs = [{"name": name, "dtype": dtype, "shape": shape} for name, dtype, shape in ports]
    image = {"name": "image", "dtype": "uint8", "shape": ["batch", SIDE, SIDE, 3]}
    graph = {"file": "g.onnx", "steps": 1, "prior": "gaussian", "precision": "fp32", "opset": 20}
    manifest |= {"priors": {}, "vocabulary": None, "engines": [], "parity": []}
    manifest["graphs"] = [graph | {"weights": list(weights), "inputs": specs, "outputs": [image]}]
    manifest["files"] = {name: record(folder / name) for name in ("g.onnx", "tokenizer.json", *weights)}
    (folder / "pahi.json").write_text(json.dumps(manifest))
    return folder


def record(path: Path) -> dict[str, Any]:
    content = path.read_bytes()
    return {"sha256": hashlib.sha256(content).hexdigest(), "size": len(content)}


def model(nodes: Sequence[Any], tensors: Sequence[Any] = (), domain: str = "", functions: Sequence[Any] = ()) -> bytes:
    inputs = [
        helper.make_tensor_value_info("input_ids", TensorProto.INT64, ["batch", 24]),
        helper.make_tensor_value_info("noise", TensorProto.FLOAT, ["batch", 4, 16, 16]),
    ]
    image = helper.make_tensor_value_info("image", TensorProto.UINT8, ["batch", SIDE, SIDE, 3])
    opsets = [helper.make_opsetid("", 20), *([helper.make_opsetid(domain, 1)] if domain else [])]
    graph = helper.make_graph(list(nodes), "g", inputs, [image], list(tensors))
    made = helper.make_model(graph, opset_imports=opsets, functions=list(functions), ir_version=9)
    return bytes(made.SerializeToString())


def external(location: str, offset: object = 0, length: object = SIZE, shape: Sequence[int] = IMAGE.shape) -> bytes:
    """A graph that shows a file's bytes as a picture."""
    tensor = TensorProto(name="w", data_type=TensorProto.UINT8, dims=shape, data_location=TensorProto.EXTERNAL)
    for key, value in (("location", location), ("offset", offset), ("length", length)):
        if value is not None:
            tensor.external_data.add(key=key, value=str(value))
    return model([helper.make_node("Identity", ["w"], ["image"])], [tensor])


def constant(name: str, values: Any) -> Any:
    return onnx.numpy_helper.from_array(np.asarray(values), name)


def showing(values: Any) -> bytes:
    return model([helper.make_node("Identity", ["w"], ["image"])], [constant("w", values)])


def filled(side: int) -> bytes:
    """Of pictures that no memory holds, folded while the graph is loaded."""
    value = helper.make_tensor("v", TensorProto.UINT8, [1], [7])
    sizes = constant("n", np.array([1, side, side, 3]))
    return model([helper.make_node("ConstantOfShape", ["n"], ["image"], value=value)], [sizes])


def looping() -> bytes:
    kinds = [("i", TensorProto.INT64), ("c", TensorProto.BOOL), ("x", TensorProto.UINT8)]
    inputs = [helper.make_tensor_value_info(name, kind, None) for name, kind in kinds]
    outputs = [helper.make_tensor_value_info("c2", TensorProto.BOOL, [])]
    outputs += [helper.make_tensor_value_info("x2", TensorProto.UINT8, None)]
    nodes = [helper.make_node("Identity", [old], [old + "2"]) for old in ("c", "x")]
    body = helper.make_graph(nodes, "body", inputs, outputs)
    tensors = [constant("n", np.array(2**62)), constant("t", np.array(True)), constant("w", IMAGE)]
    return model([helper.make_node("Loop", ["n", "t", "w"], ["image"], body=body)], tensors)


def recursive() -> bytes:
    inner = helper.make_node("R", ["x"], ["y"], domain="f")
    imports = [helper.make_opsetid("", 20), helper.make_opsetid("f", 1)]
    function = helper.make_function("f", "R", ["x"], ["y"], [inner], imports)
    return model([helper.make_node("R", ["w"], ["image"], domain="f")], [constant("w", IMAGE)], "f", [function])


def elsewhere(domain: str) -> bytes:
    nodes = [helper.make_node("Identity", ["w"], ["image"]), helper.make_node("Evil", ["noise"], ["x"], domain=domain)]
    return model(nodes, [constant("w", IMAGE)], domain)


def test_what_is_allowed_draws(library: Library, tmp_path: Path) -> None:
    content = bytes(range(256)) * (SIZE // 256)
    folder = write_bundle(tmp_path / "b", external("w.bin"), ["w.bin"], w=content)
    assert library.open(folder).draw("panda").tobytes() == content


@pytest.mark.parametrize(
    "location",
    ["../secret.bin", "./../secret.bin", "a/../../secret.bin", "link.bin", "hard.bin", "unlisted.bin", "fifo.bin"]
    + ["/proc/self/environ", "*/_ORT_MEM_ADDR_/*", "./w.bin", "", "w.bin/"],
)
def test_no_other_file_is_read(library: Library, secret: Path, tmp_path: Path, location: str) -> None:
    folder = write_bundle(tmp_path / "b", external(location), ["w.bin"], w=bytes(SIZE), unlisted=bytes(SIZE))
    (folder / "link.bin").symlink_to(secret)
    (folder / "hard.bin").hardlink_to(secret)
    (folder / "a").mkdir()
    os.mkfifo(folder / "fifo.bin")
    with pytest.raises(Failed, match="bad bundle: .*does not list as its weights"):
        library.open(folder)


def test_a_listed_link_is_refused(library: Library, secret: Path, tmp_path: Path) -> None:
    folder = write_bundle(tmp_path / "b", external("w.bin"), ["w.bin"], w=secret.read_bytes())
    (folder / "w.bin").unlink()
    (folder / "w.bin").symlink_to(secret)
    with pytest.raises(Failed, match="bad bundle: .*is a link"):
        library.open(folder)


@pytest.mark.parametrize("offset", [2**62, -5, 1, "0x0", "", None, " 0", 10**20])
def test_weights_outside_their_file(library: Library, tmp_path: Path, offset: object) -> None:
    folder = write_bundle(tmp_path / "b", external("w.bin", offset), ["w.bin"], w=bytes(SIZE))
    with pytest.raises(Failed, match="bad bundle: g.onnx is not a graph"):
        library.open(folder)


CASES: dict[str, Callable[[], bytes]] = {
    "dimensions that overflow": lambda: external("w.bin", shape=(2**31, 2**31, 2**31, 3)),
    "a Loop": looping,
    "a function that calls itself": recursive,
    "an unknown domain": lambda: elsewhere("evil"),
    "an operator of ONNX Runtime's own": lambda: elsewhere("com.microsoft"),
    "a length past the end": lambda: b"\x08\x09\x3a\xff\xff\xff\xff\x0f" + b"x" * 100,
    "a number without end": lambda: b"\x08" + b"\xff" * 20,
    "groups": lambda: b"\x0b" * 100,
    "nothing": lambda: b"",
    "no protobuf": lambda: b"PK" * 50,
    "ONNX Runtime's own format": lambda: b"\0\0\0\0ORTM" + b"\0" * 100,
    "two graphs": lambda: showing(IMAGE) + showing(IMAGE),
}


@pytest.mark.parametrize("name", CASES)
def test_graphs_that_are_refused(library: Library, tmp_path: Path, name: str) -> None:
    folder = write_bundle(tmp_path / "b", CASES[name](), ["w.bin"], w=bytes(SIZE))
    with pytest.raises(Failed, match="bad bundle: g.onnx is not a graph that this version reads"):
        library.open(folder)


@pytest.mark.parametrize(
    "shape", [(1, 128, 128), (1, 1, 1, 3), (1, 128, 128, 4), (0, 128, 128, 3), (2, 128, 128, 3), ()]
)
def test_pictures_of_another_shape(library: Library, tmp_path: Path, shape: tuple[int, ...]) -> None:
    with pytest.raises(Failed, match="bad bundle|runtime error"):
        library.open(write_bundle(tmp_path / "b", showing(np.zeros(shape, np.uint8)))).draw("panda")


def test_pictures_that_no_memory_holds(library: Library, tmp_path: Path) -> None:
    with pytest.raises(Failed, match="bad bundle|runtime error|out of memory"):
        library.open(write_bundle(tmp_path / "b", filled(1_000_000))).draw("panda")


def test_files_that_are_not_what_is_listed(library: Library, tmp_path: Path) -> None:
    folder = write_bundle(tmp_path / "b", external("w.bin"), ["w.bin"], w=bytes(SIZE))
    for name in ("w.bin", "g.onnx", "tokenizer.json"):
        content = (folder / name).read_bytes()
        (folder / name).write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
        with pytest.raises(Failed, match=f"bad bundle: .*{name} has been changed: its sha256"):
            library.open(folder)
        (folder / name).write_bytes(content)
    library.open(folder)


@pytest.mark.parametrize(
    "text, message",
    [
        ('{"a": 1, "a": 2}', "twice"),
        ("[" * 100_000, "nested too deeply"),
        ('{"a":' * 40, "nested too deeply"),
        ('{"a": NaN}', "cannot be read"),
        ('{"a": "\\ud800"}', "cannot be read"),
        (" " * (1 << 20) + "{}", "more than 1048576 bytes"),
    ],
)
def test_manifests_that_cost_or_mislead(library: Library, tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "pahi.json").write_text(text)
    with pytest.raises(Failed, match=f"bad bundle: .*{message}"):
        library.open(tmp_path)


@pytest.mark.parametrize(
    "change",
    [
        lambda m: m["image"].update(height=8193),
        lambda m: m["image"].update(latent_shape=[1, 8192, 8192]),
        lambda m: m["tokenizer"].update(max_length=1025),
        lambda m: m["graphs"][0].update(steps=5),
        lambda m: m["graphs"][0].update(file="g.ort"),
        lambda m: m.update(graphs=m["graphs"] * 101),
        lambda m: m["graphs"][0].update(weights=["g.onnx", "g.onnx"]),
        lambda m: m["files"].update({f"f{i}": m["files"]["g.onnx"] for i in range(1000)}),
        lambda m: m["files"].update({"../x": m["files"]["g.onnx"]}),
        lambda m: m["files"]["g.onnx"].update(size=2**40 + 1),
    ],
)
def test_sizes_beyond_the_limits(library: Library, tmp_path: Path, change: Callable[[Any], object]) -> None:
    folder = write_bundle(tmp_path / "b", showing(IMAGE))
    manifest = json.loads((folder / "pahi.json").read_text())
    change(manifest)
    (folder / "pahi.json").write_text(json.dumps(manifest))
    with pytest.raises(Failed, match="bad bundle"):
        library.open(folder)


@pytest.mark.parametrize(
    "text, message",
    [
        ('{"model": {"vocab": {"a": ' + "[" * 200_000 + "]" * 200_000 + "}}}", "nested too deeply"),
        ("[" * 1_000_000, "nested too deeply"),
        ('{"model": 1, "model": 2}', "twice"),
    ],
)
def test_tokenizers_that_cost_or_mislead(library: Library, tmp_path: Path, text: str, message: str) -> None:
    folder = write_bundle(tmp_path / "b", showing(IMAGE))
    (folder / "tokenizer.json").write_text(text)
    manifest = json.loads((folder / "pahi.json").read_text())
    manifest["files"]["tokenizer.json"] = record(folder / "tokenizer.json")
    (folder / "pahi.json").write_text(json.dumps(manifest))
    with pytest.raises(Failed, match=f"bad bundle: the tokenizer cannot be read: .*{message}"):
        library.open(folder)


def test_a_tokenizer_without_end(library: Library, tmp_path: Path) -> None:
    folder = write_bundle(tmp_path / "b", showing(IMAGE))
    os.truncate(folder / "tokenizer.json", 65 << 20)
    manifest = json.loads((folder / "pahi.json").read_text())
    manifest["files"]["tokenizer.json"] = record(folder / "tokenizer.json")
    (folder / "pahi.json").write_text(json.dumps(manifest))
    with pytest.raises(Failed, match="bad bundle: .*tokenizer.json has more than 67108864 bytes"):
        library.open(folder)


def test_what_a_terminal_would_obey_is_escaped(built: Path, tmp_path: Path) -> None:
    """In the name of a file that is not there, which the error repeats."""
    folder = write_bundle(tmp_path / "b", showing(IMAGE))
    name = "\x1b]0;owned\x07\u009b2J\u202egpj.\u2066\r\n\t\x7f·é"
    text = (folder / "pahi.json").read_text().replace('"tokenizer.json"', json.dumps(name))
    (folder / "pahi.json").write_text(text)
    words = [str(built / "pahi-generate"), str(folder), "panda", "-o", str(tmp_path / "x.png")]
    done = subprocess.run(words, capture_output=True, text=True, timeout=60)
    shown = r"\x1b]0;owned\x07\x9b2J\u202egpj.\u2066\r\n\t\x7f·é"
    assert done.stderr == f"error: {folder}/{shown} cannot be read: No such file or directory\n"


@pytest.mark.parametrize("name", ["pahi.json", "g.onnx", "tokenizer.json", "w.bin"])
@pytest.mark.parametrize("kind", ["fifo", "/dev/zero", "folder"])
def test_what_is_no_file_is_not_waited_for(built: Path, tmp_path: Path, name: str, kind: str) -> None:
    folder = write_bundle(tmp_path / "b", external("w.bin"), ["w.bin"], w=bytes(SIZE))
    (folder / name).unlink()
    if kind == "fifo":
        os.mkfifo(folder / name)
    elif kind == "folder":
        (folder / name).mkdir()
    else:
        (folder / name).symlink_to(kind)
    words = [str(built / "pahi-generate"), str(folder), "panda", "-o", str(tmp_path / "x.png")]
    done = subprocess.run(words, capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    assert done.stderr.startswith("error: ") and name in done.stderr


EXCHANGE = (
    "import ctypes, time\nwhile True: ctypes.CDLL(None).renameat2(-100, b'b', -100, b'evil', 2), time.sleep(1e-3)"
)
SWAPPING = [
    ["sh", "-c", "while :; do cp good new; mv -T new b/w.bin; cp evil/w.bin new; mv -T new b/w.bin; done"],
    [sys.executable, "-c", EXCHANGE],
]


@pytest.mark.parametrize("swapping", SWAPPING)
def test_weights_that_change_while_they_are_loaded(library: Library, tmp_path: Path, swapping: list[str]) -> None:
    """Beside a process that swaps them, or the bundle's folder: another picture is never drawn."""
    content, other = bytes(SIZE), b"\xff" * SIZE
    folder = write_bundle(tmp_path / "b", external("w.bin"), ["w.bin"], w=content)
    shutil.copytree(folder, tmp_path / "evil")
    for name in ("good", "evil/w.bin"):
        (tmp_path / name).write_bytes(content if name == "good" else other)
    swapper = subprocess.Popen(swapping, cwd=tmp_path, stderr=subprocess.DEVNULL)
    drawn = 0
    try:
        for _ in range(200):
            try:
                picture = library.open(folder).draw("panda")
            except Failed as error:
                assert "has been changed" in str(error) or "cannot be read" in str(error)
                continue
            drawn += 1
            assert picture.tobytes() == content
    finally:
        swapper.kill()
        swapper.wait()
    print(f"\n{drawn} of 200 loads drew")
