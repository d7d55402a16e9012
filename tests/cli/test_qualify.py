"""`pahi-rt qualify` on the contract bundle: the report, the page, and what cannot be qualified."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest
import typer

from pahi_rt.bundle import open_bundle
from pahi_rt.cli.qualify import conclude
from pahi_rt.qualification import Measure, Verdict
from pahi_rt.qualify.margins import Margin
from pahi_rt.qualify.verdicts import judge
from pahi_rt.serve.server import open_models
from pahi_rt.serve.settings import Settings
from tests.cli.conftest import Run
from tests.cli.test_errors import assert_problem
from tests.test_qualification import list_report, make_report, make_row

FAST = ["--runtimes", "onnxruntime", "--pairs", "80"]


def test_the_whole_of_it(run: Run, folder: Path, here: Path) -> None:
    result = run("qualify", str(folder), *FAST, "--layers", "--page", "page.html")
    assert result.exit_code == 0, result.output
    assert re.search(r"^pass +one-step.onnx +onnxruntime ", result.stdout, re.MULTILINE)
    assert "pass: two-step.onnx in onnxruntime" in result.stdout
    assert "none leaves the tolerance of 60 dB" in result.stdout
    assert result.stderr.endswith(f"next: pahi-rt serve {folder} --qualified\n")
    page = (here / "page.html").read_text()
    assert page.count("<section>") == 2 and page.count("data:image/png;base64,") == 2 * 4 * 3
    assert "prefers-color-scheme: dark" in page
    assert not re.search(r'(src|href)="(?!data:)', page)
    shown = run("inspect", str(folder), "--verify").stdout
    assert re.search(r"qualification\n  pass  one-step.onnx  onnxruntime ", shown)
    assert shown.endswith("all 6 files are what the manifest says\n")
    document = json.loads(run("inspect", str(folder), "--json").stdout)
    assert [row["verdict"] for row in document["qualification"]["rows"]] == ["pass", "pass"]


def test_a_report_of_another_version_is_stale(run: Run, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert run("qualify", str(folder), *FAST, "--steps", "1").exit_code == 0
    monkeypatch.setattr("onnxruntime.__version__", "99.0")
    shown = run("inspect", str(folder)).stdout
    assert re.search(r"  stale \(pass\)  one-step.onnx .* and 99.0 is installed\n", shown)


def test_json_and_a_report_elsewhere(run: Run, folder: Path, here: Path) -> None:
    result = run("qualify", str(folder), *FAST, "--steps", "1", "--pairs", "4", "-o", "report.json", "--json")
    assert result.exit_code == 0, result.output
    document = json.loads(result.stdout)
    assert document["path"] == "report.json"
    assert [(row["graph"], row["verdict"]) for row in document["rows"]] == [("one-step.onnx", "inconclusive")]
    assert json.loads((here / "report.json").read_text())["rows"] == document["rows"]
    assert f"pairs would decide what is inconclusive\nnext: pahi-rt qualify {folder} --pairs " in result.stderr
    assert not (folder / "qualification.json").exists()


@pytest.mark.parametrize("managed", [False, True])
def test_a_report_of_another_format_is_replaced_as_the_error_says(
    run: Run, folder: Path, here: Path, managed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle = open_bundle(folder)
    list_report(bundle, replace(make_report(bundle, make_row(bundle)), format_version=2))
    with monkeypatch.context() as patched:
        patched.setattr("pahi_rt.qualification.is_managed", lambda path: managed)
        shown = run("inspect", str(folder)).stderr
    (fix,) = re.findall("^fix: (.*)$", shown, re.MULTILINE)
    *shell, qualify = fix.split(" && ")
    for line in shell:
        subprocess.run(shlex.split(line), check=True)
    assert run(*shlex.split(qualify)[1:], "--runtimes", "onnxruntime", "--pairs", "2").exit_code == 0
    changed = here / "my-contract" if managed else folder
    assert len(json.loads((changed / "qualification.json").read_text())["rows"]) == 2
    assert run("inspect", str(changed), "--verify").exit_code == 0
    assert (here / "my-contract").exists() is managed


def test_a_built_in_bundle_is_qualified_as_serve_says(run: Run, here: Path) -> None:
    fix = run("serve", "emoji", "--qualified", "--runtime", "onnxruntime").stderr.splitlines()[-1]
    qualify, _, rest = fix.removeprefix("fix: ").partition(", and serve it with ")
    assert rest == "--report report.json, or use a runtime and a precision that pass"
    (here / "prompts.txt").write_text("".join(f"{number} cats\n" for number in range(80)))
    done = run(*shlex.split(qualify)[1:], "--pairs", "80", "--prompts", "prompts.txt")
    assert done.exit_code == 0, done.output
    models = open_models(Settings(("emoji",), qualified=True, reports=(here / "report.json",), runtime="onnxruntime"))
    assert [model.name for model in models] == ["emoji"]


@pytest.mark.parametrize(
    ("words", "code", "what"),
    [
        (["emoji"], 1, "is part of the package or of a cache"),
        (["nothing"], 1, "there is no bundle 'nothing'"),
        (["COPY", "--runtimes", "abacus"], 1, "there is no runtime 'abacus'"),
        (["COPY", "--precisions", "int3"], 1, "has no precision 'int3'"),
        (["COPY", "--steps", "3"], 1, "has no graph of 3 steps"),
        (["COPY", "--runtimes", "tensorrt"], 1, "the bundle has no plan for it"),
        (["COPY", "--recipe", "none"], 1, "none"),
        (["COPY", "--prompts", "none.txt"], 1, "none.txt"),
        (["COPY", "--page", "page.pdf"], 1, "does not end in .html"),
        (["COPY", "--page", "no/page.html"], 1, "no/page.html cannot be written"),
        (["COPY", "-o", "no/report.json"], 1, "does not exist"),
        (["COPY", "--model", "none"], 1, "none"),
        (["COPY", "--decoder", "x"], 2, "belong to --model"),
        (["COPY", "--steps", "one"], 2, "--steps takes numbers"),
        (["COPY", "--pairs", "1"], 2, "--pairs"),
    ],
)
def test_what_cannot_be_qualified(run: Run, folder: Path, here: Path, words: list[str], code: int, what: str) -> None:
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    result = run("qualify", *(str(folder) if word == "COPY" else word for word in words))
    assert result.exit_code == code, result.output
    assert what in result.stderr
    if code == 1:
        assert [line.partition(":")[0] for line in result.stderr.splitlines()[-2:]] == ["error", "fix"]
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    assert not list(here.iterdir())


MARGIN = Margin(0.9, "r")
OPEN = judge(0.8, (0.7, 0.95), MARGIN)


@pytest.mark.parametrize(
    ("rows", "last"),
    [
        ([], "next: pahi-rt doctor"),
        ([("fail", {}), ("inconclusive", {"psnr_db": OPEN})], "next: pahi-rt inspect BUNDLE"),
        ([("inconclusive", {"psnr_db": OPEN}), ("pass", {})], "next: pahi-rt qualify BUNDLE --pairs 30 -o r.json"),
        ([("inconclusive", {"psnr_db": judge(0.8, None, MARGIN)})], "fix: give more prompts: --prompts FILE"),
        ([("inconclusive", {"psnr_db": judge(0.8999, (0, 1), MARGIN)})], "next: .* --pairs 10000 -o r.json"),
        ([("pass", {})], "next: pahi-rt serve BUNDLE --qualified --report r.json"),
    ],
)
def test_what_comes_next(
    contract: Path, rows: list[tuple[Verdict, dict[str, Measure]]], last: str, capsys: pytest.CaptureFixture[str]
) -> None:
    bundle = open_bundle(contract)
    made = [make_row(bundle, verdict=verdict, measures=measures, pairs=10) for verdict, measures in rows]
    with suppress(typer.Exit):
        conclude("BUNDLE", made, Path("r.json"))
    assert re.fullmatch(last, capsys.readouterr().err.splitlines()[-1])


def test_without_scikit_image(run: Run, folder: Path, without: object) -> None:
    without("skimage")  # type: ignore[operator]
    assert_problem(run("qualify", str(folder)), "this needs the package skimage")
