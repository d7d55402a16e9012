"""Bad input: one line that says what is wrong, one that mends it, exit code 1, and nothing written."""

from __future__ import annotations

import json
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import Result

import pahi_rt.pipeline
from tests.cli.conftest import Run

Damage = Callable[[Path], object]


def assert_problem(result: Result, what: str) -> None:
    assert result.exit_code == 1, result.output
    assert result.stdout == ""
    error, fix = result.stderr.splitlines()
    assert error.startswith("error: ") and what in error
    assert fix.startswith("fix: ") and len(fix) > 10


@pytest.mark.parametrize(
    ("words", "what"),
    [
        ([""], "the prompt is empty"),
        (["  \t\n"], "the prompt is empty"),
        (["a cat", ""], "prompt 2 is empty"),
        (["a \udcff cat"], "the prompt is not valid UTF-8"),
        (["a \0 cat"], "the prompt holds a NUL byte"),
        (["a cat", "--seed", "-1"], "-1 is not a seed"),
        (["a cat", "--seed", str(2**64)], f"{2**64} is not a seed"),
        (["a cat", "--seed", str(2**64 - 1), "-n", "2"], "would go past 2**64 - 1"),
        (["a cat", "-n", "0"], "cannot draw 0 pictures"),
        (["a cat", "-n", "-3"], "cannot draw -3 pictures"),
        (["a cat", "--steps", "3"], "no graph of 3 steps, only 1 or 2"),
        (["a cat", "--steps", "0"], "no graph of 0 steps"),
        (["a cat", "--prior", "nothing"], "bundle 'emoji' has no prior 'nothing'"),
        (["a cat", "--precision", "int3"], "bundle 'emoji' has no precision 'int3'"),
        (["a cat", "--prior-strength", "nan"], "no prior strength: nan"),
        (["a cat", "--prior-strength", "1.5"], "no prior strength: 1.5"),
        (["a cat", "--prior", "gaussian", "--prior-strength", "1"], "a strength of 1 needs a prior"),
        (["a cat", "--threads", "0"], "cannot run on 0 threads"),
        (["a cat", "--threads", "2000"], "cannot run on 2000 threads"),
        (["a cat", "--runtime", "abacus"], "there is no runtime 'abacus'"),
        (["a cat", "--bundle", "nothing"], "there is no bundle 'nothing'"),
        (["a cat", "--bundle", ""], "there is no bundle ''"),
        (["a cat", "-o", "cat.jpg"], "cat.jpg does not end in .png"),
        (["a cat", "-o", "missing/cat.png"], "there is no folder missing"),
        (["a cat", "-o", "/dev/null"], "/dev/null is not a folder"),
        (["--prompts", "missing.txt"], "missing.txt cannot be read: No such file"),
        (["--prompts", "."], ". cannot be read: Is a directory"),
        (["--like", "missing.png"], "missing.png cannot be read: No such file"),
    ],
)
def test_generate(run: Run, here: Path, words: list[str], what: str) -> None:
    assert_problem(run("generate", *words), what)
    assert not list(here.iterdir())


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (b"", "standard input holds no prompts"),
        (b"\n \n", "standard input holds no prompts"),
        (b"a cat\n\xff\xfe\n", "line 2 of standard input is not valid UTF-8"),
        (b"a cat\nb\0d\n", "prompt 2 holds a NUL byte"),
    ],
)
def test_prompts_from_standard_input(run: Run, here: Path, content: bytes, what: str) -> None:
    assert_problem(run("generate", "--prompts", "-", stdin=content), what)
    assert not list(here.iterdir())


def test_a_bundle_named_like_nothing_that_could_be_shown(run: Run) -> None:
    assert_problem(run("generate", "a cat", "--bundle", "n\udcffthing"), "there is no bundle")


def truncate(folder: Path) -> None:
    (folder / "weights.bin").write_bytes((folder / "weights.bin").read_bytes()[:-1])


def flip(folder: Path) -> None:
    path = folder / "one-step.onnx"
    path.write_bytes(path.read_bytes()[:-1] + b"?")


def change_manifest(**changes: Any) -> Damage:
    def damage(folder: Path) -> None:
        path = folder / "pahi.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))

    return damage


DAMAGES: list[tuple[Damage, str]] = [
    (lambda folder: (folder / "pahi.json").unlink(), "has no readable pahi.json"),
    (lambda folder: (folder / "pahi.json").write_text("{"), "is not valid JSON"),
    (lambda folder: (folder / "weights.bin").unlink(), "weights.bin cannot be read"),
    (lambda folder: (folder / "tokenizer.json").unlink(), "tokenizer.json cannot be read"),
    (truncate, "bytes instead of"),
    (flip, "has been changed"),
    (change_manifest(format_version=5), "is of bundle format 5"),
    (change_manifest(surprise=1), "unknown key 'surprise'"),
    (change_manifest(noise_recipe="mersenne-1"), "needs the noise recipe 'mersenne-1'"),
]


@pytest.mark.parametrize(("damage", "what"), DAMAGES)
def test_a_damaged_bundle(run: Run, here: Path, folder: Path, damage: Damage, what: str) -> None:
    damage(folder)
    assert_problem(run("generate", "a cat", "--bundle", str(folder)), what)
    assert not list(here.iterdir())


@pytest.mark.parametrize(("damage", "what"), DAMAGES[:-1])
def test_inspect_finds_the_damage(run: Run, folder: Path, damage: Damage, what: str) -> None:
    damage(folder)
    assert_problem(run("inspect", str(folder), "--verify"), what)


def test_a_damaged_built_in_bundle(run: Run, assets: Path) -> None:
    truncate(assets / "emoji")
    result = run("generate", "a cat")
    assert_problem(result, "bytes instead of")
    assert result.stderr.endswith("fix: pip install --force-reinstall --no-deps pahi-rt\n")


def test_a_zip_that_would_write_elsewhere(run: Run, here: Path, contract: Path, cache: Path, tmp_path: Path) -> None:
    archive = tmp_path / "evil.zip"
    with zipfile.ZipFile(archive, "w") as opened:
        for path in contract.iterdir():
            opened.write(path, path.name)
        opened.writestr("../evil.txt", "boo")
    assert_problem(run("generate", "a cat", "--bundle", str(archive)), "would be written outside the bundle")
    assert not list(here.iterdir())
    assert not list(tmp_path.rglob("evil.txt"))
    assert not cache.exists() or not list(cache.iterdir())


def test_a_zip_that_is_none(run: Run, tmp_path: Path) -> None:
    (tmp_path / "x.zip").write_bytes(b"PK\3\4 and no more")
    assert_problem(run("bundles", "show", str(tmp_path / "x.zip")), "readable .zip")


def test_a_folder_that_goes_away_while_drawing(run: Run, here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn = pahi_rt.pipeline.to_images

    def draw(pictures: Any) -> Any:
        shutil.rmtree(here / "out", ignore_errors=True)
        (here / "out").touch()
        return drawn(pictures)

    monkeypatch.setattr(pahi_rt.pipeline, "to_images", draw)
    result = run("generate", "a cat", "-o", "out/")
    assert_problem(result, "out/a-cat.png cannot be written")


@pytest.mark.parametrize(
    "words",
    [
        ["generate"],
        ["generate", "a cat", "--seed", "seven"],
        ["generate", "a cat", "-n", "1.5"],
        ["generate", "a cat", "--colour", "red"],
        ["inspect"],
        ["bundles", "hide"],
        ["export", "model"],
        ["train", "hi", "--recipe", "emoji"],
        ["train", "hi", "-o", "run"],
        ["train", "gan", "-o", "run", "--recipe", "emoji"],
        ["draw"],
    ],
)
def test_wrong_usage_exits_with_2(run: Run, here: Path, words: list[str]) -> None:
    result = run(*words)
    assert result.exit_code == 2
    assert result.stdout == ""
    assert "Usage: pahi-rt" in result.stderr
    assert not list(here.iterdir())
