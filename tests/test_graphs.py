"""What a graph of a bundle may hold. Each refused graph is otherwise good: without its fault it would draw."""

from __future__ import annotations

import os
import random
import time
from pathlib import Path

import pytest

from pahi_rt import graphs
from pahi_rt.bundle import open_bundle
from pahi_rt.errors import BundleError
from pahi_rt.graphs import check_onnx
from pahi_rt.locations import built_in
from pahi_rt.manifest_file import read_manifest
from pahi_rt.pipeline import Pipeline
from tests.graph_bytes import (
    FLOAT,
    INPUTS,
    INT64,
    PICTURE,
    SIDE,
    UINT8,
    constant,
    external,
    field,
    model,
    node,
    reading,
    tensor,
    value,
    write_bundle,
)

SHAPE = (1, SIDE, SIDE, 3)
BYTES = SIDE * SIDE * 3
IDENTITY = node("Identity", ["w"], ["image"])
ZEROS = tensor("w", SHAPE, UINT8, bytes(BYTES))


def check(bundle: Path, content: bytes, weights: dict[str, int] | None = None) -> None:
    """Read a graph in the place of the contract's."""
    graph, sizes = open_bundle(bundle).graph(1), weights or {}
    graph = type(graph).from_dict({**graph.to_dict(), "weights": list(sizes)})
    check_onnx(content, graph, sizes, "one-step.onnx")


def refuse(bundle: Path, content: bytes, what: str, weights: dict[str, int] | None = None) -> None:
    with pytest.raises(BundleError, match=f"one-step.onnx is not a graph that pahi-rt reads: .*{what}"):
        check(bundle, content, weights)


@pytest.mark.parametrize("name", built_in())
def test_the_graphs_of_built_in_bundles(name: str) -> None:
    open_bundle(name).check_graphs()


def test_graphs_that_are_fine(contract: Path, contract_with_priors: Path) -> None:
    for bundle in (contract, contract_with_priors):
        open_bundle(bundle).check_graphs()
    check(contract, constant())
    check(contract, reading("w.bin", "17"), {"w.bin": BYTES + 17})
    check(contract, model([IDENTITY], [field(1, b"\x01\x20\x20\x03") + field(2, UINT8) + field(9, bytes(BYTES))]))
    check(contract, model([node("Identity", ["w"], ["image"], field(7, "ai.onnx"))], [ZEROS]))


def test_a_graph_in_a_folder_has_its_weights_there(contract: Path) -> None:
    graph = open_bundle(contract).graph(1)
    graph = type(graph).from_dict({**graph.to_dict(), "file": "a/b/x.onnx", "weights": ["a/b/c/w.bin"]})
    check_onnx(reading("c/w.bin"), graph, {"a/b/c/w.bin": BYTES}, "x.onnx")
    for elsewhere in ("a/b/c/w.bin", "w.bin", "c/../c/w.bin"):
        with pytest.raises(BundleError, match="does not list"):
            check_onnx(reading(elsewhere), graph, {"a/b/c/w.bin": BYTES}, "x.onnx")


OUTSIDE = [
    "../secret.bin",
    "/etc/passwd",
    "/proc/self/environ",
    "./w.bin",
    "./../secret.bin",
    "a/../w.bin",
    "w.bin/",
    "w.bin\0",
    "W.BIN",
    ".\\w.bin",
    "unlisted.bin",
    "one-step.onnx",
    "*/_ORT_MEM_ADDR_/*",
    "",
]


@pytest.mark.parametrize("location", OUTSIDE)
def test_data_outside_the_listed_weights(contract: Path, location: str) -> None:
    refuse(contract, reading(location), "does not list as its weights", {"w.bin": BYTES})


@pytest.mark.parametrize(
    ("offset", "length", "what"),
    [
        ("1", str(BYTES), "the file has 3072"),
        ("0", str(BYTES - 1), "lies at 0 of w.bin, 3071 bytes long"),
        ("0", str(BYTES + 1), "3073 bytes long"),
        ("0", "0", "0 bytes long"),
        (str(2**48), str(BYTES), "the file has 3072"),
        (str(2**62), str(BYTES), "make no sense"),
        ("-5", str(BYTES), "make no sense"),
        ("+0", str(BYTES), "make no sense"),
        ("0x0", str(BYTES), "make no sense"),
        ("", str(BYTES), "make no sense"),
        ("0", "", "make no sense"),
        ("0 ", str(BYTES), "make no sense"),
        ("\u0660", str(BYTES), "make no sense"),  # a zero in Arabic
    ],
)
def test_places_that_are_not_in_the_file(contract: Path, offset: str, length: str, what: str) -> None:
    refuse(contract, reading("w.bin", offset, length), what, {"w.bin": BYTES})


@pytest.mark.parametrize(
    "place",
    [
        {},
        {"location": "w.bin"},
        {"location": "w.bin", "offset": "0"},
        {"location": "w.bin", "offset": "0", "length": "3072", "checksum": "0"},
        {"location": "w.bin", "offset": "0", "length": "3072", "prepacked_0": "0|3072|x"},
    ],
)
def test_other_keys_of_a_place(contract: Path, place: dict[str, str]) -> None:
    refuse(contract, model([IDENTITY], [external("w", SHAPE, UINT8, **place)]), "other keys", {"w.bin": BYTES})


def test_a_key_of_a_place_that_is_there_twice(contract: Path) -> None:
    place = external("w", SHAPE, UINT8, location="w.bin", offset="0", length=str(BYTES))
    second = field(13, field(1, "location") + field(2, "w.bin"))
    refuse(contract, model([IDENTITY], [place + second]), "other keys", {"w.bin": BYTES})


IN_FILE = external("w", SHAPE, UINT8, location="w.bin", offset="0", length=str(BYTES))


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (IN_FILE + field(9, bytes(BYTES)), "two places"),
        (IN_FILE + field(5, 7), "two places"),
        (IN_FILE.replace(field(14, 1), b""), "two places"),
        (IN_FILE.replace(field(14, 1), field(14, 2**32 + 1)), "two places"),  # protobuf reads it as 1
        (IN_FILE + field(14, 1), "field 14"),
        (IN_FILE + field(6, "text"), "field 6"),
        (IN_FILE + field(3, b""), "field 3"),
        (tensor("w", SHAPE, UINT8, bytes(BYTES - 1)), "has 3071 bytes, and its shape 3072"),
        (tensor("w", SHAPE, UINT8, bytes(BYTES)) + field(5, 7), "3072"),
        (tensor("w", SHAPE, 8, bytes(BYTES)), "data type 8"),
        (tensor("w", SHAPE, 2**32 + UINT8, bytes(BYTES)), "data type 4294967298"),
        (tensor("w", (2**31,) * 3, UINT8, b""), "bytes, and 8589934592 are allowed"),
        (tensor("w", (-1, SIDE), UINT8, b""), "has the shape"),
        (tensor("w", (2**40, 0), UINT8, b""), "has the shape"),
        (tensor("w", (1,) * 17, UINT8, b"x"), "has the shape"),
        (field(1, 2**30) + field(2, FLOAT) + field(4, bytes(8)), "fewer values than its shape"),
        (field(1, 2**30) + field(2, FLOAT), "fewer values than its shape"),
    ],
)
def test_tensors_that_make_no_sense(contract: Path, content: bytes, what: str) -> None:
    refuse(contract, model([IDENTITY], [content]), what, {"w.bin": BYTES})


BODY = field(1, node("Sin", ["x"], ["y"])) + field(2, "body")


@pytest.mark.parametrize(
    ("extra", "what"),
    [
        (field(5, field(1, "body") + field(6, BODY) + field(20, 5)), "an attribute has a field 6"),
        (field(5, field(1, "body") + field(11, BODY) + field(20, 10)), "an attribute has a field 11"),
        (field(5, field(1, "body") + field(20, 5)), "an attribute has the type 5"),
        (field(5, field(1, "value") + field(22, b"")), "an attribute has a field 22"),
        (field(5, field(1, "value") + field(21, "x")), "an attribute has a field 21"),
        (field(5, field(1, "value") + field(10, ZEROS)), "an attribute has a field 10"),
        (field(5, field(1, "value") + field(5, IN_FILE)), "'w.bin', which the manifest does not list"),
        (field(7, "com.microsoft"), "the domain 'com.microsoft'"),
        (field(7, "evil"), "the domain 'evil'"),
        (field(7, "") + field(7, "evil"), "a node has a field 7"),
        (field(8, "overload"), "a node has a field 8"),
    ],
)
def test_nodes_that_our_exports_do_not_have(contract: Path, extra: bytes, what: str) -> None:
    nodes = [node("Sin", ["noise"], ["unused"], extra), IDENTITY]
    refuse(contract, model(nodes, [ZEROS]), what, {"w.bin": BYTES})


def test_the_same_attribute_again_is_refused_again(contract: Path) -> None:
    """What was found good is remembered, what was not is not."""
    good, bad = field(5, field(1, "axis") + field(3, 1) + field(20, 2)), field(5, field(1, "body") + field(6, BODY))
    nodes = [node("Sin", ["noise"], ["a"], good), node("Sin", ["noise"], ["b"], good)]
    check(contract, model([*nodes, IDENTITY], [ZEROS]))
    refuse(contract, model([*nodes, node("Sin", ["a"], ["c"], bad), IDENTITY], [ZEROS]), "field 6")


@pytest.mark.parametrize(
    ("changes", "what"),
    [
        ({"in_model": field(25, field(1, "F"))}, "the model has a field 25"),  # functions
        ({"in_model": field(20, b"")}, "the model has a field 20"),  # training_info
        ({"in_model": field(7, field(1, IDENTITY))}, "the model has a field 7"),  # protobuf would merge the two
        ({"in_model": field(8, field(1, "com.microsoft") + field(2, 1))}, "the domain 'com.microsoft'"),
        ({"in_model": field(99, 1)}, "the model has a field 99"),
        ({"in_graph": field(15, b"")}, "the graph has a field 15"),  # sparse_initializer
        ({"in_graph": field(14, b"")}, "the graph has a field 14"),  # quantization_annotation
        ({"inputs": INPUTS[:1]}, "it has the inputs {'input_ids': 'int64'}, its manifest says"),
        ({"inputs": [*INPUTS, value("w", UINT8)]}, "it has the inputs"),
        ({"inputs": [*INPUTS, INPUTS[0]]}, "it has the inputs"),
        ({"inputs": [value("input_ids", FLOAT), INPUTS[1]]}, "'input_ids': 'float32'"),
        ({"inputs": [value("input_ids", INT64, ["batch"]), INPUTS[1]]}, r"input_ids has the shape \[None\]"),
        ({"inputs": [INPUTS[0], value("noise", FLOAT, ["b", 4, 4, 5])]}, r"noise has the shape \[None, 4, 4, 5\]"),
        ({"outputs": []}, "it has the outputs {}"),
        ({"outputs": [PICTURE, value("more", UINT8)]}, "it has the outputs"),
        ({"outputs": [value("image", FLOAT)]}, "'image': 'float32'"),
        ({"outputs": [field(1, "image")]}, "'image': 'type 0'"),
        ({"outputs": [field(1, "image") + field(2, field(4, b""))]}, "a type has a field 4"),  # a sequence
        ({"outputs": [value("image", UINT8, [1, SIDE, SIDE, 4])]}, "image has the shape"),
    ],
)
def test_models_that_our_exports_are_not(contract: Path, changes: dict[str, object], what: str) -> None:
    refuse(contract, model([IDENTITY], [ZEROS], **changes), what)  # type: ignore[arg-type]


def test_functions_that_multiply(contract: Path) -> None:
    """Forty functions, each of which calls the one before twice, come to 2**40 nodes; one calls itself."""
    call = b"".join(field(7, node(f"D{k - 1}", ["x"], ["y"], field(7, "f"))) for k in range(40))
    refuse(
        contract, model([node("D", ["w"], ["image"], field(7, "f"))], [ZEROS], in_model=field(25, call)), "field 25|'f'"
    )


@pytest.mark.parametrize(
    "content", [b"", b"PK" * 50, b"not a graph", bytes(100), b"\x08\x09\x3a\xff\xff\xff\xff\x0fxx"]
)
def test_what_is_not_a_graph(contract: Path, content: bytes) -> None:
    refuse(contract, content, "")


def test_what_onnx_runtime_would_take_for_its_own_format(contract: Path) -> None:
    content = field(1, 9) + field(2, "ORTM") + constant()[2:]
    assert content[4:8] == b"ORTM"
    refuse(contract, content, "its own format")
    check(contract, constant() + field(2, "ORTM"))


def test_counts_are_bounded(contract: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(graphs, "MAX_NODES", 3)
    monkeypatch.setattr(graphs, "MAX_INITIALIZERS", 2)
    sines = [node("Sin", ["noise"], [f"{k}"]) for k in range(3)]
    check(contract, model([IDENTITY, *sines[:2]], [ZEROS] * 2))
    refuse(contract, model([IDENTITY, *sines], [ZEROS]), "4 nodes, and 3 are allowed")
    refuse(contract, model([IDENTITY], [ZEROS] * 3), "3 tensors, and 2 are allowed")
    monkeypatch.setattr(graphs, "MAX_FIELDS", 20)
    refuse(contract, model([IDENTITY], [ZEROS]), "too many fields")


def test_large_tensors_are_stepped_over(contract: Path) -> None:
    """Time does not grow with what is not read."""
    content = model([IDENTITY], [tensor("w", (1, 64 << 20), UINT8, bytes(64 << 20))])
    started = time.thread_time()
    check(contract, content)
    assert time.thread_time() - started < 0.5


def damage(content: bytes, chance: random.Random) -> bytes:
    """One to four bytes changed, taken out, put in, or moved."""
    changed = bytearray(content)
    for _ in range(chance.randint(1, 4)):
        at = chance.randrange(len(changed))
        kind = chance.randrange(4)
        if kind == 0:
            changed[at] = chance.randrange(256)
        elif kind == 1:
            del changed[at : at + chance.choice([1, 2, 8, 64])]
        elif kind == 2:
            changed[at:at] = chance.choice([b"\xff" * 10, b"\x80", b"\x0b", bytes([chance.randrange(256)])])
        else:
            other = chance.randrange(len(changed))
            changed[at : at + 8] = changed[other : other + 8]
    return bytes(changed)


HOW_MANY = int(os.environ.get("PAHI_FUZZ", "500"))


def test_damaged_graphs(contract: Path) -> None:
    """They are read or refused, and nothing else. PAHI_FUZZ=20000 tries more."""
    bundle, chance = open_bundle(contract), random.Random(0)
    sizes = {name: record.size for name, record in bundle.manifest.files.items()}
    for graph in bundle.manifest.graphs:
        content, refused = (contract / graph.file).read_bytes(), 0
        for _ in range(HOW_MANY):
            started = time.thread_time()
            try:
                check_onnx(damage(content, chance), graph, sizes, graph.file)
            except BundleError:
                refused += 1
            assert time.thread_time() - started < 1
        assert HOW_MANY * 0.3 < refused < HOW_MANY


def test_damaged_manifests(contract: Path) -> None:
    content, chance, refused = (contract / "pahi.json").read_bytes(), random.Random(0), 0
    for _ in range(HOW_MANY):
        started = time.thread_time()
        try:
            read_manifest(damage(content, chance), "pahi.json")
        except BundleError:
            refused += 1
        assert time.thread_time() - started < 1
    assert HOW_MANY * 0.3 < refused <= HOW_MANY


@pytest.mark.parametrize("how", ["unlisted link", "unlisted hard link", "unlisted file"])
def test_a_bundle_draws_no_other_file(contract: Path, tmp_path: Path, how: str) -> None:
    """Through what lies in the folder and is not listed: it is never hashed."""
    secret = tmp_path / "secret.bin"
    secret.write_bytes(b"secret" * 512)
    folder = write_bundle(contract, tmp_path / "bundle", reading("w.bin"))
    if how == "unlisted link":
        (folder / "w.bin").symlink_to(secret)
    elif how == "unlisted hard link":
        (folder / "w.bin").hardlink_to(secret)
    else:
        (folder / "w.bin").write_bytes(secret.read_bytes())
    with pytest.raises(BundleError, match="'w.bin', which the manifest does not list"):
        Pipeline.load(folder, runtime="onnxruntime")


def test_a_bundle_draws_its_own_file(contract: Path, tmp_path: Path) -> None:
    """The graphs of these tests are such as runtimes run."""
    folder = write_bundle(contract, tmp_path / "bundle", reading("w.bin"), {"w.bin": b"mine!!" * 512})
    assert Pipeline.load(folder, runtime="onnxruntime")("cat").tobytes() == b"mine!!" * 512
