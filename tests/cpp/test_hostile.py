"""Bundles of strangers: the C library reads no file but theirs, and ends neither the process nor never."""

from __future__ import annotations

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
from pahi_rt.errors import BundleError
from pahi_rt.manifest import is_pickle_name, is_safe_name
from pahi_rt.manifest_file import read_manifest
from tests.cpp.bundles import IMAGE, SIZE, TOKENS, constant, model, record, showing, write_bundle
from tests.cpp.library import DEPENDENCIES, Failed, Library, build, run

pytestmark = [
    pytest.mark.cpp,
    pytest.mark.skipif(not DEPENDENCIES.is_dir(), reason=f"there is no {DEPENDENCIES}: run make .venv/.cpp"),
]


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


def external(location: str, offset: object = 0, length: object = SIZE, shape: Sequence[int] = IMAGE.shape) -> bytes:
    """A graph that shows a file's bytes as a picture."""
    tensor = TensorProto(name="w", data_type=TensorProto.UINT8, dims=shape, data_location=TensorProto.EXTERNAL)
    for key, value in (("location", location), ("offset", offset), ("length", length)):
        if value is not None:
            tensor.external_data.add(key=key, value=str(value))
    return model([helper.make_node("Identity", ["w"], ["image"])], [tensor])


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


def declaring(kind: Any, **parts: Any) -> bytes:
    """A graph that says that its picture is of this kind."""
    return showing(IMAGE, image=helper.make_value_info("image", kind), **parts)


def sequence(**parts: Any) -> bytes:
    """A graph whose picture is a sequence, which it does not say."""
    return model([helper.make_node("SequenceEmpty", [], ["image"], dtype=TensorProto.UINT8)], **parts)


def typed(number: int) -> bytes:
    """A graph with an attribute of this type, which says nothing else."""
    node = helper.make_node("Identity", ["w"], ["image"])
    node.attribute.add(name="a", type=number)
    return model([node], [constant("w", IMAGE)])


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
    "a picture that is a sequence": lambda: sequence(image=helper.make_value_info("image", onnx.TypeProto())),
    "a picture of no type": lambda: declaring(onnx.TypeProto()),
    "a picture that is said to be a sequence": lambda: declaring(
        helper.make_sequence_type_proto(helper.make_tensor_type_proto(TensorProto.UINT8, None))
    ),
    "a picture of another type": lambda: declaring(helper.make_tensor_type_proto(TensorProto.FLOAT, IMAGE.shape)),
    "a picture of another rank": lambda: declaring(helper.make_tensor_type_proto(TensorProto.UINT8, ())),
    "a picture of another size": lambda: declaring(helper.make_tensor_type_proto(TensorProto.UINT8, (1, 128, 127, 3))),
    "ids of another number": lambda: showing(IMAGE, tokens=25),
    "an output of another name": lambda: model(
        [helper.make_node("Identity", ["w"], ["x"])],
        [constant("w", IMAGE)],
        image=helper.make_tensor_value_info("x", TensorProto.UINT8, IMAGE.shape),
    ),
    "an input too many": lambda: showing(IMAGE, more=[helper.make_tensor_value_info("x", TensorProto.FLOAT, [1])]),
    "an input twice": lambda: showing(IMAGE, more=[helper.make_tensor_value_info("noise", TensorProto.FLOAT, None)]),
    "an attribute that is a graph": lambda: typed(5),
    "an attribute of tensors": lambda: typed(9),
}


@pytest.mark.parametrize("name", CASES)
def test_graphs_that_are_refused(library: Library, tmp_path: Path, name: str) -> None:
    """By both readers."""
    folder = write_bundle(tmp_path / "b", CASES[name](), ["w.bin"], w=bytes(SIZE))
    with pytest.raises(BundleError, match="g.onnx is not a graph that pahi-rt reads"):
        open_bundle(folder).check_graphs()
    with pytest.raises(Failed, match="bad bundle: g.onnx is not a graph that this version reads"):
        library.open(folder)


@pytest.mark.parametrize("tokens", ["tokens", TOKENS])
@pytest.mark.parametrize("shape", [None, ["batch", "height", "width", "colours"], IMAGE.shape])
def test_sizes_need_not_be_given(library: Library, tmp_path: Path, tokens: Any, shape: Any) -> None:
    kind = helper.make_tensor_type_proto(TensorProto.UINT8, shape)
    folder = write_bundle(tmp_path / "b", declaring(kind, tokens=tokens))
    open_bundle(folder).check_graphs()
    assert not library.open(folder).draw("panda").any()


def test_pictures_of_a_shape_that_shows_when_they_are_drawn(library: Library, tmp_path: Path) -> None:
    """Of a graph that counts its noise: [4, values, 1, 3]."""
    nodes = [
        helper.make_node("NonZero", ["noise"], ["places"]),
        helper.make_node("Shape", ["places"], ["counts"]),
        helper.make_node("Concat", ["counts", "rest"], ["sizes"], axis=0),
        helper.make_node(
            "ConstantOfShape", ["sizes"], ["image"], value=helper.make_tensor("v", TensorProto.UINT8, [1], [7])
        ),
    ]
    image = helper.make_tensor_value_info("image", TensorProto.UINT8, ["batch", "height", "width", "colours"])
    opened = library.open(write_bundle(tmp_path / "b", model(nodes, [constant("rest", [1, 3])], image=image)))
    with pytest.raises(Failed, match="runtime error"):
        opened.draw("panda")


@pytest.mark.parametrize(
    "shape", [(1, 128, 128), (1, 1, 1, 3), (1, 128, 128, 4), (0, 128, 128, 3), (2, 128, 128, 3), ()]
)
def test_pictures_of_another_shape(library: Library, tmp_path: Path, shape: tuple[int, ...]) -> None:
    with pytest.raises(Failed, match="bad bundle|runtime error"):
        library.open(write_bundle(tmp_path / "b", showing(np.zeros(shape, np.uint8)))).draw("panda")


def test_a_sequence_that_is_said_to_be_a_picture(library: Library, tmp_path: Path) -> None:
    with pytest.raises(Failed, match="runtime error"):
        library.open(write_bundle(tmp_path / "b", sequence()))


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


def twice(manifest: dict[str, Any]) -> None:
    """A second graph of the same steps, prior and precision."""
    manifest["graphs"].append(manifest["graphs"][0] | {"file": "h.onnx"})
    manifest["files"]["h.onnx"] = manifest["files"]["g.onnx"]


def plan(*batch: int) -> Callable[[Any], object]:
    made = {"file": "g.onnx", "graph": "g.onnx", "graph_sha256": "", "runtime": "tensorrt", "runtime_version": "10"}
    return lambda m: m["engines"].append(made | {"compute_capabilities": ["86"], "batch": batch})


@pytest.mark.parametrize(
    "change",
    [
        lambda m: m["image"].update(height=8193),
        lambda m: m["image"].update(latent_shape=[1, 8192, 8192]),
        lambda m: m["image"].update(width=127),
        lambda m: m["tokenizer"].update(max_length=1),
        lambda m: m["tokenizer"].update(max_length=25),
        lambda m: m["tokenizer"].update(max_length=1025),
        lambda m: m["graphs"][0].update(steps=5),
        lambda m: m["graphs"][0].update(file="g.ort"),
        lambda m: m["graphs"][0].update(precision="fp31"),
        lambda m: m["graphs"][0].update(weights=["../w.bin"]),
        lambda m: m["graphs"][0].update(inputs={}),
        lambda m: m["graphs"][0]["inputs"].append({"name": "x", "dtype": "int64", "shape": ["batch"]}),
        lambda m: m["graphs"][0]["inputs"].append(m["graphs"][0]["inputs"][0]),
        lambda m: m["graphs"][0]["inputs"].pop(),
        lambda m: m["graphs"][0]["inputs"][0].update(shape=[1, 24]),
        lambda m: m["graphs"][0]["outputs"][0].update(dtype="float32"),
        lambda m: m["graphs"][0]["outputs"].clear(),
        lambda m: m.update(graphs=m["graphs"] * 101),
        lambda m: m.update(graphs={"first": m["graphs"][0]}),
        twice,
        plan(1, 2),
        plan(2, 1, 4),
        plan(1, 2, 257),
        lambda m: m["files"].update({f"f{i}": m["files"]["g.onnx"] for i in range(1000)}),
        lambda m: m["files"].update({"pahi.json": m["files"]["g.onnx"]}),
        lambda m: m["files"]["g.onnx"].update(size=2**40),
        lambda m: m["files"]["g.onnx"].update(sha256="0" * 63),
        lambda m: m["files"]["g.onnx"].update(sha256="A" * 64),
    ],
)
def test_manifests_that_python_refuses_too(library: Library, tmp_path: Path, change: Callable[[Any], object]) -> None:
    folder = write_bundle(tmp_path / "b", showing(IMAGE))
    library.open(folder)
    manifest = json.loads((folder / "pahi.json").read_text())
    read_manifest(json.dumps(manifest).encode(), "pahi.json")
    change(manifest)
    with pytest.raises(BundleError):
        read_manifest(json.dumps(manifest).encode(), "pahi.json")
    (folder / "pahi.json").write_text(json.dumps(manifest))
    with pytest.raises(Failed, match="bad bundle"):
        library.open(folder)


def test_weights_are_named_once(library: Library, tmp_path: Path) -> None:
    """They are hashed for each time that they are named."""
    folder = write_bundle(tmp_path / "b", external("w.bin"), ["w.bin", "w.bin"], w=bytes(SIZE))
    with pytest.raises(Failed, match="bad bundle: .*names its weights twice"):
        library.open(folder)


NAMES = [
    *("w.bin", "a/b/w.bin", "a b/+@-_.x", "é/日本/٣½Ⅷ_", "..w", "...", ".w", "w.pt.bin", "pt", "w.ptx"),
    *("", "/w", "w/", "a//b", ".", "..", "./w", "a/./b", "../w", "a/../w", "/", "C:w", "a\\b", "a:b", "\0", "a\nb"),
    *("*/_ORT_MEM_ADDR_/*", "a*", "~", "a\u0301", "a\u202eb", "\u2003", "😀", "a'b", "a;b", "$x", "%41", "a,b", "(a)"),
    *("w.pt", "w.PTH", "a/w.pkl", "w.ckpt", "w.joblib", "w.pickle", ".pt", "w.p\u212al"),
]


@pytest.mark.parametrize("name", NAMES, ids=ascii)
def test_names_are_those_of_python(library: Library, tmp_path: Path, name: str) -> None:
    folder = write_bundle(tmp_path / "b", showing(IMAGE))
    manifest = json.loads((folder / "pahi.json").read_text())
    manifest["files"][name] = manifest["files"]["g.onnx"]
    (folder / "pahi.json").write_text(json.dumps(manifest))
    if is_safe_name(name) and not is_pickle_name(name):
        library.open(folder)
        return
    with pytest.raises(Failed, match="bad bundle: .*is not a path inside the bundle|bad bundle: .*is a pickle"):
        library.open(folder)


def test_a_manifest_that_is_a_link(library: Library, tmp_path: Path) -> None:
    folder = write_bundle(tmp_path / "b", showing(IMAGE))
    (folder / "pahi.json").rename(tmp_path / "elsewhere.json")
    (folder / "pahi.json").symlink_to(tmp_path / "elsewhere.json")
    with pytest.raises(Failed, match="bad bundle: .*pahi.json is a link"):
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
    """In the name of a file, which the error repeats."""
    folder = write_bundle(tmp_path / "b", showing(IMAGE))
    name = "\x1b]0;owned\x07\u009b2J\u202egpj.\u2066\u061c\u2028\r\n\t\x7f·é"
    text = (folder / "pahi.json").read_text().replace('"tokenizer.json"', json.dumps(name))
    (folder / "pahi.json").write_text(text)
    words = [str(built / "pahi-generate"), str(folder), "panda", "-o", str(tmp_path / "x.png")]
    done = subprocess.run(words, capture_output=True, text=True, timeout=60)
    shown = r"\x1b]0;owned\x07\x9b2J\u202egpj.\u2066\u061c\u2028\r\n\t\x7f·é"
    assert done.stderr == f"error: pahi.json: '{shown}' is not a path inside the bundle\n"


@pytest.mark.parametrize(
    "raw, shown",
    [
        (b"\xff\xfe", r"\xff\xfe"),
        (b"\xc2\xb7\xc2", r"·\xc2"),  # cut off
        (b"\xc0\xaf\xed\xa0\x80", r"\xc0\xaf\xed\xa0\x80"),  # too long, and half of a pair
        (b"\xe2\x80", r"\xe2\x80"),
        (b"\xf0\x9f\x98\x80\x80", r"😀\x80"),
        (b"x" + "é".encode() * 80, "x" + "é" * 39 + r"\xc3"),  # the message has 80 bytes of it
        (b"a\0b", r"a\x00b"),
    ],
)
def test_messages_are_utf8(library: Library, tmp_path: Path, raw: bytes, shown: str) -> None:
    """Also if a graph's domain is not, or if a message cuts it."""
    content = elsewhere("d" * len(raw)).replace(b"d" * len(raw), raw)
    with pytest.raises(Failed) as caught:
        library.open(write_bundle(tmp_path / "b", content))
    assert str(caught.value).endswith(f"it has operators of the domain '{shown}'")


API = """
typedef struct { const void *(*get)(unsigned); const char *(*version)(void); } base;
static const void *get(unsigned version) { (void)version; return 0; }
static const char *version(void) { return VERSION; }
const base *OrtGetApiBase(void) { static const base only = {get, version}; return &only; }
"""


@pytest.mark.parametrize(
    "version, message",
    [
        ("1.24.0", "ONNX Runtime 1.24.0 is too old: this library needs 1.24.1 or newer"),
        ("1.24.1", r"ONNX Runtime 1.24.1 is older than the headers that libpahi was built with \(API \d+\)"),
    ],
)
def test_an_onnx_runtime_that_is_too_old(built: Path, tmp_path: Path, version: str, message: str) -> None:
    """In the place of the one that the library was linked with, one that offers no interface."""
    (tmp_path / "api.c").write_text(API)
    old = tmp_path / "libold.so"
    run(["cc", "-shared", "-fPIC", f'-DVERSION="{version}"', str(tmp_path / "api.c"), "-o", str(old)])
    words = [str(built / "pahi-generate"), str(write_bundle(tmp_path / "b", showing(IMAGE))), "panda"]
    with pytest.raises(RuntimeError, match=f"error: {message}"):
        run(words, tmp_path, LD_PRELOAD=str(old))


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
