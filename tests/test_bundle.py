from __future__ import annotations

import dataclasses
import json
import os
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pahi_rt import bundle as b
from pahi_rt.errors import BundleError
from pahi_rt.locations import built_in
from pahi_rt.manifest import FileRecord, ImageSpec, Manifest, TensorSpec

Edit = Callable[[Callable[[dict[str, Any]], object]], Path]


def replace_file(edit: Edit, name: str, content: bytes) -> Path:
    """A file with new content that the manifest vouches for."""

    def change(data: dict[str, Any]) -> None:
        path.write_bytes(content)
        data["files"][name] = b.file_record(path).to_dict()

    path = edit(lambda data: None) / name
    return edit(change)


def use_graph(folder: Path) -> None:
    """What a runtime does before it loads a graph."""
    bundle = b.open_bundle(folder)
    with bundle.opened(bundle.graph(1)):
        pass


def test_open_and_verify(contract: Path) -> None:
    bundle = b.open_bundle(contract)
    assert bundle.path == contract
    assert bundle.manifest.name == "contract"
    assert bundle.manifest.image == ImageSpec(32, 32, (4, 4, 4))
    assert sorted(bundle.graphs()) == [1, 2]
    assert (bundle.precisions, bundle.choose_precision()) == (["fp32"], "fp32")
    assert bundle.graph(2).inputs[2] == TensorSpec("prior_strength", "float32", ("batch",))
    assert bundle.file("tokenizer.json") == contract / "tokenizer.json"
    with bundle.opened(bundle.graph(1)) as graph:
        assert (graph.path, graph.content) == (contract / "one-step.onnx", (contract / "one-step.onnx").read_bytes())
    assert bundle.graph(1).weights == ("weights.bin",)
    b.verify(bundle)


def test_a_text_path_works_as_well(contract: Path) -> None:
    assert b.open_bundle(str(contract)).manifest == b.open_bundle(contract).manifest


@pytest.mark.parametrize("name", built_in())
def test_built_in_bundles_are_intact(name: str) -> None:
    bundle = b.open_bundle(name)
    assert bundle.manifest.name == name
    b.verify(bundle)


@pytest.mark.parametrize("name", ["contract", "contract-priors"])
def test_the_manifest_survives_a_round_trip(contract: Path, name: str, tmp_path: Path) -> None:
    manifest = b.open_bundle(contract.with_name(name)).manifest
    b.write_manifest(tmp_path, manifest)
    assert os.listdir(tmp_path) == ["pahi.json"]
    assert (tmp_path / "pahi.json").read_bytes() == (contract.with_name(name) / "pahi.json").read_bytes()
    assert Manifest.from_dict(manifest.to_dict() | {"engines": [], "parity": []}).graphs == manifest.graphs


def test_a_manifest_that_cannot_be_read_back_is_not_written(contract: Path, folder: Path) -> None:
    manifest = b.open_bundle(contract).manifest
    infinite = dataclasses.replace(manifest.parity[0], psnr_db=float("inf"))
    for bad in (
        dataclasses.replace(manifest, parity=(infinite,)),
        dataclasses.replace(manifest, files={}),
        dataclasses.replace(manifest, format_version=5),
        dataclasses.replace(manifest, graphs=()),
    ):
        with pytest.raises(BundleError):
            b.write_manifest(folder, bad)
    assert (folder / "pahi.json").read_bytes() == (contract / "pahi.json").read_bytes()
    assert sorted(os.listdir(folder)) == sorted(os.listdir(contract))


@pytest.mark.parametrize("name", ["", "nowhere", "~nobody-here/x", "a\0b", "x" * 5000, "https://example.org/x.zip"])
def test_no_such_bundle(name: str) -> None:
    with pytest.raises(BundleError, match="there is no bundle") as caught:
        b.open_bundle(name)
    assert "pahi.json" in caught.value.fix


def test_a_folder_without_manifest(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="not a bundle"):
        b.open_bundle(tmp_path)


@pytest.mark.parametrize(
    "content", [b"", b"{", b"\xff\xfe", b"[" * 100_000, b'{"format_version": ' + b"9" * 5000 + b"}"]
)
def test_a_manifest_that_is_not_json(folder: Path, content: bytes) -> None:
    (folder / "pahi.json").write_bytes(content)
    with pytest.raises(BundleError, match="not valid JSON"):
        b.open_bundle(folder)


def test_a_truncated_manifest(folder: Path) -> None:
    content = (folder / "pahi.json").read_bytes()
    (folder / "pahi.json").write_bytes(content[: len(content) // 2])
    with pytest.raises(BundleError, match="not valid JSON"):
        b.open_bundle(folder)


def plan(**changes: object) -> dict[str, object]:
    usual = {"runtime": "tensorrt-rtx", "runtime_version": "1", "compute_capabilities": ["86"], "batch": [1, 2, 4]}
    return {"file": "weights.bin", "graph": "one-step.onnx", "graph_sha256": "0" * 64, **usual, **changes}


@pytest.mark.parametrize(("version", "fix"), [(5, "pip install --upgrade pahi-rt"), (2, "export the bundle again")])
def test_another_format(edit: Edit, version: int, fix: str) -> None:
    def change(data: dict[str, Any]) -> None:
        data["format_version"] = version
        data["something_else"] = True

    with pytest.raises(BundleError, match=f"format {version}; this version reads 3 and 4") as caught:
        b.open_bundle(edit(change))
    assert caught.value.fix.startswith(fix)


@pytest.mark.parametrize("version", [0, -1, "1", 1.0, True, None])
def test_no_usable_format_version(edit: Edit, version: object) -> None:
    with pytest.raises(BundleError, match="format_version"):
        b.open_bundle(edit(lambda data: data.update(format_version=version)))


@pytest.mark.parametrize(
    ("change", "what"),
    [
        (lambda d: d.update(extra=1), "unknown key 'extra'"),
        (lambda d: d.pop("noise_recipe"), "missing key 'noise_recipe'"),
        (lambda d: d.update(name=3), "name: expected a value of type str, found '3'"),
        (lambda d: d.update(generator=None), "generator: expected an object"),
        (lambda d: d["image"].update(height="32"), "image: height"),
        (lambda d: d["image"].update(height=True), "image: height"),
        (lambda d: d["image"].update(height=0), "sizes make no sense"),
        (lambda d: d["image"].update(latent_shape=[4, 4]), "latent_shape: expected a list of 3"),
        (lambda d: d["tokenizer"].update(max_length=1), "sizes make no sense"),
        (lambda d: d.update(graphs={}), "graphs: expected a list"),
        (lambda d: d.update(graphs=[]), "there are no graphs"),
        (lambda d: d["graphs"][0].update(steps="1"), r"graphs\[0\]: steps: expected a value of type int"),
        (lambda d: d["graphs"][0].update(steps=0), "one-step.onnx: 0 steps, .* make no sense here"),
        (lambda d: d["graphs"][0].update(precision="int3"), "precision 'int3' make no sense here"),
        (lambda d: d["engines"].append(plan(batch=[8, 8, 4])), "weights.bin: no batch goes from 8 over 8 to 4"),
        (lambda d: d["engines"].append(plan(batch=[1, 2, 0])), "weights.bin: no batch goes from 1 over 2 to 0"),
        (lambda d: d["engines"].append(plan(graph="tokenizer.json")), "'tokenizer.json', which is not a graph"),
        (lambda d: d["graphs"][0].update(prior="hi"), "prior 'hi' and precision 'fp32' make no sense here"),
        (lambda d: d["graphs"].append(d["graphs"][0]), "one-step.onnx is a second graph of"),
        (lambda d: d["graphs"][0]["inputs"][0].update(shape="batch"), r"inputs\[0\]: shape: expected a list"),
        (lambda d: d["graphs"][0]["inputs"][0].update(shape=[1.5]), r"shape\[0\]: expected int or str"),
        (lambda d: d["graphs"][0].update(file="other.onnx"), "'other.onnx' is used but not listed"),
        (lambda d: d["parity"][0].update(psnr_db=10**400), "not valid JSON: a number has 401 characters"),
        (lambda d: d["parity"][0].update(psnr_db=float("nan")), "not valid JSON: NaN is not a number"),
        (lambda d: d["card"]["measured"].update(x=None), "measured: x: expected float or str"),
        (lambda d: d["files"]["weights.bin"].update(size=-1), "weights.bin: no usable size"),
        (lambda d: d["files"]["weights.bin"].update(sha256="0" * 63), "weights.bin: no usable size"),
        (lambda d: d["files"].update({"pahi.json": d["files"]["weights.bin"]}), "'pahi.json' is not a path"),
        (lambda d: d["files"].update({"model.pt": d["files"]["weights.bin"]}), "model.pt is a pickle"),
        (lambda d: d["files"].update({"MODEL.PKL": d["files"]["weights.bin"]}), "MODEL.PKL is a pickle"),
    ],
)
def test_a_manifest_that_does_not_fit(edit: Edit, change: Callable[[dict[str, Any]], object], what: str) -> None:
    with pytest.raises(BundleError, match=what) as caught:
        b.open_bundle(edit(change))
    assert caught.value.fix


@pytest.mark.parametrize(
    "name",
    [
        "/etc/passwd",
        "../weights.bin",
        "a/../../weights.bin",
        "..",
        ".",
        "a//b",
        "a/",
        "",
        "C:/x",
        "..\\x",
        "a\nb",
        "\ud800",
    ],
)
def test_names_that_would_leave_the_bundle(edit: Edit, name: str) -> None:
    with pytest.raises(BundleError, match="not a path inside the bundle|not valid JSON"):
        b.open_bundle(edit(lambda data: data["files"].update({name: data["files"]["weights.bin"]})))


def test_a_file_that_is_not_listed_is_not_given_out(folder: Path) -> None:
    (folder / "other.txt").write_text("x")
    with pytest.raises(BundleError, match="lists no file 'other.txt'"):
        b.open_bundle(folder).file("other.txt")


def test_a_missing_file(folder: Path) -> None:
    (folder / "weights.bin").unlink()
    with pytest.raises(BundleError, match="cannot be read"):
        use_graph(folder)


def test_a_folder_in_place_of_a_file(folder: Path) -> None:
    (folder / "weights.bin").unlink()
    (folder / "weights.bin").mkdir()
    with pytest.raises(BundleError, match="not a file"):
        use_graph(folder)


def test_a_truncated_file(folder: Path) -> None:
    os.truncate(folder / "weights.bin", 100)
    with pytest.raises(BundleError, match="has 100 bytes instead of 12336") as caught:
        use_graph(folder)
    assert str(folder) in caught.value.fix


def test_a_tampered_file(folder: Path) -> None:
    content = bytearray((folder / "weights.bin").read_bytes())
    content[10] ^= 1
    (folder / "weights.bin").write_bytes(content)
    bundle = b.open_bundle(folder)
    for check in (lambda: use_graph(folder), lambda: b.verify(bundle), lambda: bundle.file("weights.bin")):
        with pytest.raises(BundleError, match="sha256"):
            check()


def test_files_are_checked_when_they_are_used(folder: Path) -> None:
    bundle = b.open_bundle(folder)
    bundle.file("one-step.onnx")
    (folder / "one-step.onnx").write_bytes(b"x" * (folder / "one-step.onnx").stat().st_size)
    with pytest.raises(BundleError, match="sha256"):
        bundle.file("one-step.onnx")


@pytest.mark.parametrize("name", ["weights.bin", "pahi.json"])
def test_a_symbolic_link_that_leaves_the_bundle(folder: Path, tmp_path: Path, name: str) -> None:
    shutil.move(folder / name, tmp_path / name)
    (folder / name).symlink_to(tmp_path / name)
    with pytest.raises(BundleError, match="link that leaves the bundle"):
        use_graph(folder)


@pytest.mark.parametrize("name", ["weights.bin", "pahi.json"])
def test_a_loop_of_links(folder: Path, name: str) -> None:
    (folder / name).unlink()
    (folder / name).symlink_to(name)
    with pytest.raises(BundleError):
        use_graph(folder)


def test_a_linked_folder_that_leaves_the_bundle(folder: Path, tmp_path: Path, edit: Edit) -> None:
    (tmp_path / "outside").mkdir()
    shutil.copy(folder / "weights.bin", tmp_path / "outside")
    (folder / "inside").symlink_to(tmp_path / "outside")
    edit(lambda data: data["files"].update({"inside/weights.bin": data["files"]["weights.bin"]}))
    with pytest.raises(BundleError, match="link that leaves the bundle"):
        b.open_bundle(folder).file("inside/weights.bin")


def test_a_copy_of_hard_links(folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder, tmp_path / "linked", copy_function=os.link)  # as cp -al does
    (folder / "unrelated").mkdir()
    b.verify(b.open_bundle(tmp_path / "linked"))
    use_graph(tmp_path / "linked")


def test_a_hard_link_to_another_file_is_not_what_is_listed(folder: Path, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_bytes(b"s" * (folder / "weights.bin").stat().st_size)
    (folder / "weights.bin").unlink()
    os.link(secret, folder / "weights.bin")
    with pytest.raises(BundleError, match="has been changed"):
        use_graph(folder)


def test_links_inside_the_bundle_are_fine(folder: Path, edit: Edit, tmp_path: Path) -> None:
    os.link(folder / "weights.bin", folder / "hard.bin")
    (folder / "soft.bin").symlink_to("weights.bin")
    record = b.file_record(folder / "weights.bin").to_dict()
    edit(lambda data: data["files"].update({"hard.bin": record, "soft.bin": record}))
    (tmp_path / "elsewhere").symlink_to(folder)
    bundle = b.open_bundle(tmp_path / "elsewhere")
    assert len([bundle.file(name) for name in ("weights.bin", "hard.bin", "soft.bin")]) == 3


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_a_pickle_under_another_name(edit: Edit, protocol: int) -> None:
    folder = replace_file(edit, "weights.bin", pickle.dumps({"weight": [1.0, 2.0], "n": 3}, protocol))
    with pytest.raises(BundleError, match="is a pickle"):
        b.open_bundle(folder).file("weights.bin")


def test_a_torch_checkpoint_under_another_name(edit: Edit, tmp_path: Path) -> None:
    import zipfile

    with zipfile.ZipFile(tmp_path / "checkpoint", "w") as archive:
        archive.writestr("archive/data.pkl", pickle.dumps({}))
    folder = replace_file(edit, "weights.bin", (tmp_path / "checkpoint").read_bytes())
    with pytest.raises(BundleError, match="is a pickle"):
        b.open_bundle(folder).file("weights.bin")


def test_a_pickle_that_lies_beside(folder: Path) -> None:
    (folder / "extra").mkdir()
    (folder / "extra" / "optimizer.pt").write_bytes(b"x")
    with pytest.raises(BundleError, match="optimizer.pt is a pickle"):
        b.open_bundle(folder)


@pytest.mark.parametrize("head", [b"\x80\x02\x00\x3c\x01\x02", b"\x80\x04\xff\xff", b"PK\x03\x04\x00", b"\x80", b""])
def test_weights_that_begin_like_a_pickle_by_chance(edit: Edit, head: bytes) -> None:
    folder = replace_file(edit, "weights.bin", head + bytes(100))
    b.open_bundle(folder).file("weights.bin")


PRIOR_DAMAGES: list[tuple[Callable[[dict[str, Any]], object], str]] = [
    (lambda d: d.pop("priors"), "missing key 'priors'"),
    (lambda d: d["priors"].update(ahi=d["priors"]["hi"]), "'ahi' is not one of pahi, hi"),
    (lambda d: d.update(graphs=[g for g in d["graphs"] if g["prior"] != "hi"]), "hi has no graph"),
    (lambda d: d["priors"].pop("hi"), "prior 'hi' and precision 'fp32' make no sense here"),
    (lambda d: d["priors"]["hi"].update(licence="?"), "priors: hi: unknown key 'licence'"),
    (lambda d: d["priors"]["hi"].update(kl_nats=float("inf")), "not valid JSON: Infinity is not a number"),
    (lambda d: d["priors"]["hi"]["component"].pop("sha256"), "hi: component: missing key 'sha256'"),
    (lambda d: d["graphs"][0]["inputs"].pop(), "one-step-hi.onnx does not take prior_strength"),
    (lambda d: d["files"].pop("two-step-pahi.onnx"), "'two-step-pahi.onnx' is used but not listed"),
]


@pytest.mark.parametrize(("change", "what"), PRIOR_DAMAGES)
def test_priors_that_do_not_fit(
    contract_with_priors: Path, tmp_path: Path, change: Callable[[dict[str, Any]], object], what: str
) -> None:
    data = json.loads((contract_with_priors / "pahi.json").read_text())
    change(data)
    (tmp_path / "pahi.json").write_text(json.dumps(data))
    with pytest.raises(BundleError, match=what):
        b.open_bundle(tmp_path)


def test_graphs_of_priors(contract: Path, contract_with_priors: Path) -> None:
    bundle = b.open_bundle(contract_with_priors)
    assert bundle.priors == ["pahi", "hi"]  # the default first, whatever the manifest's order
    assert bundle.graph(1, "hi").file == "one-step-hi.onnx"
    assert bundle.graph(2, "pahi").file == "two-step-pahi.onnx"
    assert bundle.graph(2).file == "two-step-pahi.onnx"  # at strength 0
    assert bundle.graph(1, "hi").weights == ("weights.bin", "hi.bin")
    assert b.open_bundle(contract).priors == []


def test_a_graph_without_prior_draws_from_the_gaussian_where_there_is_one(contract_with_priors: Path) -> None:
    bundle = b.open_bundle(contract_with_priors)
    plain = dataclasses.replace(bundle.graph(1), file="one-step.onnx", prior="gaussian")
    graphs = (plain, *bundle.manifest.graphs)
    bundle = b.Bundle(bundle.path, dataclasses.replace(bundle.manifest, graphs=graphs))
    assert [bundle.graph(steps).file for steps in (1, 2)] == ["one-step.onnx", "two-step-pahi.onnx"]


@pytest.mark.parametrize("prior", ["hi", "PAHI", "", "x" * 99])
def test_a_prior_that_the_bundle_lacks(contract: Path, contract_with_priors: Path, prior: str) -> None:
    with pytest.raises(BundleError, match=f"has no prior '{prior[:40]}'") as caught:
        b.open_bundle(contract).graph(1, prior)
    assert caught.value.fix == "use --prior gaussian"
    manifest = b.open_bundle(contract_with_priors).manifest
    only = dataclasses.replace(manifest, priors={"pahi": manifest.priors["pahi"]})
    with pytest.raises(BundleError) as caught:
        b.Bundle(contract_with_priors, only).graph(1, prior)
    assert caught.value.fix == "use --prior pahi or gaussian"


def test_an_unknown_number_of_steps(contract: Path) -> None:
    with pytest.raises(BundleError, match="no graph of 4 steps, only 1 or 2") as caught:
        b.open_bundle(contract).graph(4)
    assert caught.value.fix == "use --steps 1 or 2"


def test_precisions(contract: Path) -> None:
    bundle = b.open_bundle(contract)
    half = [dataclasses.replace(g, file=f"half-{g.file}", precision="fp16") for g in bundle.manifest.graphs]
    manifest = dataclasses.replace(bundle.manifest, graphs=(*bundle.manifest.graphs, *half))
    both = b.Bundle(contract, manifest)
    assert both.precisions == ["fp32", "fp16"]
    assert [both.graph(1, precision=p).file for p in (None, "fp32", "fp16")] == [
        "one-step.onnx",
        "one-step.onnx",
        "half-one-step.onnx",
    ]
    with pytest.raises(BundleError, match="has no precision 'int8'") as caught:
        both.graph(1, precision="int8")
    assert caught.value.fix == "use --precision fp32 or fp16"


def test_file_record(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"abc")
    expected = FileRecord("ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad", 3)
    assert b.file_record(tmp_path / "x") == expected


def test_the_committed_manifest_is_plain_json(contract: Path) -> None:
    data = json.loads((contract / "pahi.json").read_text())
    assert [graph["steps"] for graph in data["graphs"]] == [1, 2]
    assert data["priors"] == {}


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (b'{"a": 1, "a": 2}', "a key twice"),
        (b'{"a": {"b": 1, "b": 2}}', "a key twice"),
        (b'{"a": NaN}', "NaN is not a number"),
        (b'{"a": -Infinity}', "-Infinity is not a number"),
        (b'{"a": 12345678901234567}', "a number has 17 characters"),
        (b'{"a": "\\ud800"}', "surrogates not allowed"),
        (b'{"\\udfff": 1}', "surrogates not allowed"),
        (b"[" * 33 + b"1" + b"]" * 33, "more than 32 levels deep"),
        (b'{"a":' * 40 + b"1" + b"}" * 40, "more than 32 levels deep"),
        (b"\xef\xbb\xbf{}", "BOM"),
        ('{"a": 1}'.encode("utf-16"), "decode"),
        (b'{"a": "\xff"}', "decode"),
    ],
)
def test_json_that_other_readers_may_understand_otherwise(folder: Path, content: bytes, what: str) -> None:
    (folder / "pahi.json").write_bytes(content)
    with pytest.raises(BundleError, match=f"not valid JSON: .*{what}"):
        b.open_bundle(folder)


def test_a_manifest_that_never_ends(folder: Path) -> None:
    (folder / "pahi.json").write_bytes(b" " * (1 << 20) + b"{}")
    with pytest.raises(BundleError, match="has more than 1048576 bytes"):
        b.open_bundle(folder)


def test_a_manifest_that_is_no_file(folder: Path) -> None:
    """A FIFO is not waited for, a device not read without end."""
    (folder / "pahi.json").unlink()
    os.mkfifo(folder / "pahi.json")
    with pytest.raises(BundleError, match="is not a file"):
        b.open_bundle(folder)
    (folder / "pahi.json").unlink()
    (folder / "pahi.json").symlink_to("/dev/zero")
    with pytest.raises(BundleError, match="link that leaves the bundle"):
        b.open_bundle(folder)


def resize(**sizes: object) -> Callable[[dict[str, Any]], object]:
    """Change the sizes of a manifest and of its graphs alike: height, width, latents, tokens."""

    def change(data: dict[str, Any]) -> None:
        image, tokenizer = data["image"], data["tokenizer"]
        image.update(height=sizes.get("height", 32), width=sizes.get("width", 32))
        image.update(latent_shape=sizes.get("latents", [4, 4, 4]))
        tokenizer.update(max_length=sizes.get("tokens", 24))
        for graph in data["graphs"]:
            graph["inputs"][0]["shape"] = ["batch", tokenizer["max_length"]]
            graph["inputs"][1]["shape"] = ["batch", *image["latent_shape"]]
            graph["outputs"][0]["shape"] = ["batch", image["height"], image["width"], 3]

    return change


def list_many(data: dict[str, Any], count: int) -> None:
    data["files"].update({f"f{k}": data["files"]["weights.bin"] for k in range(count - len(data["files"]))})


@pytest.mark.parametrize(
    ("change", "what"),
    [
        (resize(height=8193), "height is 8193, not 1 to 8192"),
        (resize(width=0), "width is 0, not 1 to 8192"),
        (resize(height=8192, width=8193), "width is 8193"),
        (resize(height=8192, width=8192 + 1 - 1, latents=[4, 4, 2**20 + 1]), "values of latent_shape is 16777232"),
        (resize(latents=[1, 60000, 60000]), "values of latent_shape is 3600000000, not 1 to 16777216"),
        (resize(latents=[4, 0, 4]), "least of latent_shape is 0"),
        (resize(latents=[-4, -4, 4]), "least of latent_shape is -4"),
        (resize(tokens=1), "max_length is 1, not 2 to 1024"),
        (resize(tokens=2**33), "max_length is 8589934592, not 2 to 1024"),
        (lambda d: d["tokenizer"].update(pad_id=2**31), "pad_id is 2147483648"),
        (lambda d: d["graphs"][0].update(steps=5), "5 steps, .* make no sense here"),
        (lambda d: d["engines"].append(plan(batch=[1, 2, 257])), "no batch goes from 1 over 2 to 257"),
        (lambda d: d["files"]["weights.bin"].update(size=2**40), "weights.bin: no usable size"),
        (lambda d: d["files"]["one-step.onnx"].update(size=2**28 + 1), "one-step.onnx has more than 268435456 bytes"),
        (lambda d: d["files"]["tokenizer.json"].update(size=2**26 + 1), "tokenizer.json has more than 67108864 bytes"),
        (lambda d: list_many(d, 1001), "lists 1001 files, and 1000 are allowed"),
        (lambda d: d.update(graphs=d["graphs"] * 51), "there are 102 graphs"),
        (lambda d: d["graphs"][0].update(file="weights.bin"), "weights.bin is not called .onnx"),
        (lambda d: d["graphs"][0]["inputs"].pop(), r"one-step.onnx: inputs: \{'input_ids'.* are not"),
        (lambda d: d["graphs"][0]["inputs"].append(d["graphs"][0]["inputs"][0]), "one-step.onnx: inputs"),
        (lambda d: d["graphs"][0]["inputs"][0].update(name="ids"), "one-step.onnx: inputs"),
        (lambda d: d["graphs"][0]["inputs"][0].update(dtype="int32"), "one-step.onnx: inputs"),
        (lambda d: d["graphs"][0]["inputs"][1].update(shape=["batch", 4, 4, 5]), "one-step.onnx: inputs"),
        (lambda d: d["graphs"][0]["outputs"][0].update(dtype="float32"), "one-step.onnx: outputs"),
        (lambda d: d["graphs"][0]["outputs"][0].update(shape=["batch", 32, 32, 4]), "one-step.onnx: outputs"),
        (lambda d: d["graphs"][0]["outputs"].append(d["graphs"][0]["outputs"][0]), "one-step.onnx: outputs"),
    ],
)
def test_what_would_cost_without_end(edit: Edit, change: Callable[[dict[str, Any]], object], what: str) -> None:
    with pytest.raises(BundleError, match=what):
        b.open_bundle(edit(change))


def test_the_largest_that_is_allowed(edit: Edit) -> None:
    b.open_bundle(edit(resize(height=8192, width=8192, latents=[4, 2048, 2048], tokens=1024)))
    b.open_bundle(edit(lambda data: list_many(data, 1000)))


def test_weights_in_another_folder_than_the_graph(edit: Edit) -> None:
    def move(data: dict[str, Any]) -> None:
        data["files"]["a/one-step.onnx"] = data["files"]["one-step.onnx"]
        data["graphs"][0]["file"] = "a/one-step.onnx"

    with pytest.raises(BundleError, match="a/one-step.onnx: its weights lie in another folder"):
        b.open_bundle(edit(move))


def test_a_folder_of_very_many_files(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(b, "MOST_ENTRIES", 100)
    (folder / "more").mkdir()
    for number in range(100 - len(os.listdir(folder))):
        (folder / "more" / str(number)).touch()
    b.open_bundle(folder)
    (folder / "more" / "last").touch()
    with pytest.raises(BundleError, match="holds more than 100 files and folders"):
        b.open_bundle(folder)


def test_a_graph_is_read_where_it_is_used(folder: Path, edit: Edit) -> None:
    """A graph of the kind that is refused, which the manifest vouches for."""
    content = (folder / "one-step.onnx").read_bytes() + b"\xca\x01\x00"  # a function
    replace_file(edit, "one-step.onnx", content)
    bundle = b.open_bundle(folder)
    uses = (lambda: use_graph(folder), lambda: b.verify(bundle), lambda: bundle.read_graph(bundle.graph(1)))
    for use in (*uses, bundle.check_graphs):
        with pytest.raises(BundleError, match="not a graph that pahi-rt reads: the model has a field 25"):
            use()
