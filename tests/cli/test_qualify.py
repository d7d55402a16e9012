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

from pahi_rt.bundle import Bundle, open_bundle
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
    assert result.stderr.endswith(f"next: pahi-rt serve {folder} --qualified --runtime onnxruntime\n")
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
    assert "pairs would decide what is inconclusive\n" in result.stderr
    again = f"next: pahi-rt qualify {folder} --runtimes onnxruntime --steps 1 --pairs \\d+ -o report.json --json\n"
    assert re.search(again, result.stderr)
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


GIVEN = {"runtimes": ("--runtimes", "onnxruntime"), "prompts": ("--prompts", "p.txt"), "pairs": ("--pairs", "10")}
FEW, NEAR = {"psnr_db": OPEN}, {"psnr_db": judge(0.8999, (0, 1), MARGIN)}
ONE, TWO = (0, "onnxruntime"), (1, "onnxruntime")


@pytest.mark.parametrize(
    ("rows", "given", "last"),
    [
        ([], GIVEN, "next: pahi-rt doctor"),
        ([(ONE, "fail", {}), (TWO, "inconclusive", FEW)], GIVEN, "next: pahi-rt inspect BUNDLE"),
        (
            [(ONE, "fail", {}), (TWO, "pass", {})],
            {"output": ("-o", "r.json")},
            "note: what passes is fp32 in onnxruntime",
        ),
        (
            [(ONE, "inconclusive", FEW), (TWO, "pass", {})],
            GIVEN,
            "next: pahi-rt qualify BUNDLE --runtimes onnxruntime --prompts p.txt --pairs 30",
        ),
        ([(ONE, "inconclusive", FEW)], {"output": ("-o", "r.json")}, "next: .* BUNDLE -o r.json --pairs 30"),
        ([(ONE, "inconclusive", {"psnr_db": judge(0.8, None, MARGIN)})], {}, "fix: give more prompts: --prompts FILE"),
        ([(ONE, "inconclusive", NEAR)], {}, "next: pahi-rt qualify BUNDLE --pairs 10000"),
        ([(ONE, "pass", {}), (TWO, "pass", {})], {}, "next: pahi-rt serve BUNDLE --qualified"),
        (
            [(ONE, "pass", {}), (TWO, "pass", {})],
            {**GIVEN, "output": ("-o", "r.json")},
            "next: pahi-rt serve BUNDLE --qualified --runtime onnxruntime --report r.json",
        ),
        (
            [(ONE, "pass", {}), (TWO, "pass", {}), ((0, "openvino"), "fail", {})],
            {},
            "next: pahi-rt serve BUNDLE --qualified --runtime onnxruntime",
        ),
        (
            [(ONE, "pass", {})],
            {**GIVEN, "steps": ("--steps", "1")},
            "next: pahi-rt qualify BUNDLE --runtimes onnxruntime --prompts p.txt --pairs 10",
        ),
    ],
)
def test_what_comes_next(
    contract: Path,
    rows: list[tuple[tuple[int, str], Verdict, dict[str, Measure]]],
    given: dict[str, tuple[str, ...]],
    last: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    bundle = open_bundle(contract)
    made = [
        make_row(bundle, number, runtime=runtime, verdict=verdict, measures=measures, pairs=10)
        for (number, runtime), verdict, measures in rows
    ]
    with suppress(typer.Exit):
        conclude("BUNDLE", given, bundle, made, made)
    assert re.fullmatch(last, capsys.readouterr().err.splitlines()[-1])


def test_the_most_pairs_are_not_advised_again(contract: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bundle = open_bundle(contract)
    row = make_row(bundle, verdict="inconclusive", measures=NEAR, pairs=10_000)
    conclude("BUNDLE", {}, bundle, [row], [row])
    shown = capsys.readouterr().err
    assert "10000 are the most" in shown and "next:" not in shown


@pytest.mark.parametrize(
    ("standing", "last"),
    [({}, "serve BUNDLE --qualified"), ({"version": "0.1"}, "qualify BUNDLE"), ({"verdict": "fail"}, "qualify BUNDLE")],
)
def test_earlier_rows_serve_too_where_they_count(
    contract: Path,
    standing: dict[str, str],
    last: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr("onnxruntime.__version__", "9.9")
    bundle = open_bundle(contract)
    new, old = make_row(bundle), replace(make_row(bundle, 1), **standing)  # type: ignore[arg-type]
    conclude("BUNDLE", {"steps": ("--steps", "1")}, bundle, [new], [new, old])
    assert capsys.readouterr().err.endswith(f"next: pahi-rt {last}\n")


def test_another_precision_than_the_default_is_named(bundle_of_two: Bundle, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [make_row(bundle_of_two, 0, verdict="fail"), make_row(bundle_of_two, 1)]
    with suppress(typer.Exit):
        conclude("BUNDLE", {}, bundle_of_two, rows, rows)
    assert capsys.readouterr().err.endswith("next: pahi-rt serve BUNDLE --qualified --precision w16\n")


@pytest.fixture
def bundle_of_two(contract: Path) -> Bundle:
    """With two precisions, by its manifest."""
    bundle = open_bundle(contract)
    one, two = bundle.manifest.graphs
    return replace(bundle, manifest=replace(bundle.manifest, graphs=(one, replace(two, precision="w16"))))


def test_without_scikit_image(run: Run, folder: Path, without: object) -> None:
    without("skimage")  # type: ignore[operator]
    assert_problem(run("qualify", str(folder)), "this needs the package skimage")
