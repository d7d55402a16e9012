"""What a site holds, what is refused, and that it is built to the byte again. The packages here are empty ones."""

from __future__ import annotations

import gzip
import hashlib
import json
import re
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from pahi_rt import Pipeline
from pahi_rt.bundle import open_bundle
from pahi_rt.cli import app
from pahi_rt.errors import BundleError, OutputError
from pahi_rt.export.web import contents, site
from pahi_rt.export.web.packages import ONNXRUNTIME, TOKENIZERS
from tests.export.web.test_packages import make_tarball


@pytest.fixture
def packages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with packages that hold the files that a site takes, each with its name as its content."""
    folder = tmp_path / "npm"
    folder.mkdir()
    names = {
        "ONNXRUNTIME": [name for pair in contents.ENGINES.values() for name in pair],
        "TOKENIZERS": ["tokenizers.min.mjs"],
    }
    for constant, package in (("ONNXRUNTIME", ONNXRUNTIME), ("TOKENIZERS", TOKENIZERS)):
        tarball = make_tarball({f"dist/{name}": name.encode() for name in names[constant]})
        (folder / package.tarball).write_bytes(tarball)
        monkeypatch.setattr(contents, constant, replace(package, sha256=hashlib.sha256(tarball).hexdigest()))
    return folder


@pytest.fixture
def built(contract_with_priors: Path, packages: Path, tmp_path: Path) -> Path:
    return site.write_site(contract_with_priors, tmp_path / "built", packages=packages).path


def read(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_every_file_is_listed_with_its_hash(built: Path) -> None:
    files = read(built)
    listed = json.loads(files.pop("site.json"))["files"]
    assert listed == {
        name: {"size": len(content), "sha256": hashlib.sha256(content).hexdigest()} for name, content in files.items()
    }
    assert site.list_files(built) == [*listed, "site.json"]


def test_graphs_and_weights_are_those_of_the_bundle(built: Path, contract_with_priors: Path) -> None:
    described, bundle = json.loads((built / "site.json").read_bytes()), open_bundle(contract_with_priors)
    assert {(graph["steps"], graph["prior"]) for graph in described["graphs"]} == {
        (graph.steps, graph.prior) for graph in bundle.manifest.graphs
    }
    for graph in described["graphs"]:
        for name in (graph["file"], *(weights["file"] for weights in graph["weights"])):
            original = bundle.path / name.removeprefix("model/").removesuffix(".gz")
            assert gzip.decompress((built / name).read_bytes()) == original.read_bytes()


def test_the_check_picture_is_pythons(built: Path, contract_with_priors: Path) -> None:
    check = json.loads((built / "site.json").read_bytes())["check"]
    pipeline = Pipeline.load(contract_with_priors, steps=check["steps"], prior=check["prior"])
    picture = pipeline(check["prompt"], seed=check["seed"], prior_strength=check["strength"])
    assert gzip.decompress((built / check["picture"]).read_bytes()) == np.asarray(picture).tobytes()


def test_the_page_draws_in_the_browser_and_asks_no_other_host(built: Path) -> None:
    assert "local.js" in (built / "backend.js").read_text()
    assert "default-src 'self'" in (built / "index.html").read_text()
    assert not (built / "isolating.js").exists()
    for path in built.glob("**/*"):
        if path.suffix in (".html", ".css", ".js"):
            assert not re.findall(r"https?://(?!127\.0\.0\.1|www\.w3\.org)\w+", path.read_text())


def test_a_site_is_built_again_to_the_byte(built: Path, contract_with_priors: Path, packages: Path) -> None:
    before = read(built)
    assert site.write_site(contract_with_priors, built, packages=packages, overwrite=True).path == built
    assert read(built) == before


def test_a_folder_with_other_files_is_kept(built: Path, contract_with_priors: Path, packages: Path) -> None:
    (built / "CNAME").write_text("example.org")
    with pytest.raises(OutputError) as caught:
        site.write_site(contract_with_priors, built, packages=packages, overwrite=True)
    assert "CNAME" in caught.value.what
    assert (built / "CNAME").read_text() == "example.org"


def test_isolation_is_asked_for(contract_with_priors: Path, packages: Path, tmp_path: Path) -> None:
    output = tmp_path / "isolated"
    folder = site.write_site(contract_with_priors, output, packages=packages, isolate=True).path
    assert "isolate.js" in (folder / "backend.js").read_text()
    assert (folder / "isolating.js").exists()


def test_one_file_holds_all_of_it(contract_with_priors: Path, packages: Path, tmp_path: Path) -> None:
    page = site.write_site(contract_with_priors, tmp_path / "one.html", packages=packages, single_file=True).path
    text = page.read_text()
    held = re.findall(r'data-file="([^"]+)"', text)
    assert {"site.json", "app.js", "browser/worker.js", "lib/ort.wasm.wasm.gz", "model/tokenizer.json.gz"} <= set(held)
    assert held.index("problem.js") < held.index("browser/local.js") < held.index("app.js")
    assert " src=" not in text and ' href="style.css"' not in text
    with pytest.raises(OutputError):
        site.write_site(contract_with_priors, page, packages=packages, single_file=True)
    with pytest.raises(OutputError) as caught:
        site.write_site(contract_with_priors, tmp_path / "one", packages=packages, single_file=True)
    assert caught.value.fix.endswith("one.html")


def test_what_a_browser_cannot_hold_is_refused(
    contract: Path, packages: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(site, "LARGEST", 1000)
    with pytest.raises(BundleError) as caught:
        site.write_site(contract, tmp_path / "large", packages=packages)
    assert "--precision" in caught.value.fix
    assert not (tmp_path / "large").exists()


def test_a_page_of_one_file_is_smaller(
    contract: Path, packages: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(site, "LARGEST_IN_PAGE", 1000)
    with pytest.raises(BundleError, match="400 MB") as caught:
        site.write_site(contract, tmp_path / "page.html", packages=packages, single_file=True)
    assert "--single-file" in caught.value.fix
    assert not (tmp_path / "page.html").exists()
    assert site.write_site(contract, tmp_path / "site", packages=packages).path.is_dir()


def without(bundle: Path, place: Path, *graphs: tuple[int, str]) -> Path:
    """A copy of a bundle without its graphs of these steps and priors."""
    folder = Path(shutil.copytree(bundle, place))
    manifest = json.loads((folder / "pahi.json").read_text())
    kept = [graph for graph in manifest["graphs"] if (graph["steps"], graph["prior"]) not in graphs]
    (folder / "pahi.json").write_text(json.dumps({**manifest, "graphs": kept}))
    return folder


def test_the_page_begins_with_a_graph_that_is_there(contract_with_priors: Path, packages: Path, tmp_path: Path) -> None:
    bundle = without(contract_with_priors, tmp_path / "bundle", (1, "pahi"))
    made = site.write_site(bundle, tmp_path / "site", packages=packages)
    check = json.loads(made.files["site.json"])["check"]
    assert (check["steps"], check["prior"]) == (2, "pahi")
    assert min(made.wire_bytes.values()) > 0


def test_a_bundle_without_graphs_of_its_default_prior_is_refused(
    contract_with_priors: Path, packages: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pahi_rt.export.web.contents.choose_prior", lambda bundle: "gaussian")
    with pytest.raises(BundleError, match="no graph of one or two steps with its default prior, gaussian"):
        site.write_site(contract_with_priors, tmp_path / "site", packages=packages)


def test_a_bundle_of_other_steps_alone_is_refused(contract: Path, packages: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(contract, tmp_path / "four"))
    manifest = json.loads((folder / "pahi.json").read_text())
    (graph,) = [graph for graph in manifest["graphs"] if graph["steps"] == 2]
    (folder / "pahi.json").write_text(json.dumps({**manifest, "graphs": [{**graph, "steps": 4}]}))
    with pytest.raises(BundleError) as caught:
        site.write_site(folder, tmp_path / "site", packages=packages)
    assert "--steps" in caught.value.fix


def test_the_verb_says_what_goes_over_the_wire(contract: Path, packages: Path, tmp_path: Path) -> None:
    words = ["embed", "web", str(contract), "-o", str(tmp_path / "site"), "--packages", str(packages), "--json"]
    result = CliRunner().invoke(app, words)
    assert result.exit_code == 0, result.output
    assert set(json.loads(result.stdout)["wire_bytes"]) == {"wasm", "webgpu"}
    assert json.loads(result.stdout)["timing"] is None and "was not measured" in result.stderr  # it is no WebAssembly
    assert CliRunner().invoke(app, [*words, "--isolate", "--single-file"]).exit_code == 2
