"""What comes from outside reaches a terminal in no other form than escaped, and a broken output is said."""

from __future__ import annotations

import json
import logging
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from typer.testing import Result

from pahi_rt.cli import messages
from pahi_rt.drawing import encode_png, read_drawing
from pahi_rt.terminal import table
from tests.cli.conftest import Run

EVIL = "\x1b]0;owned\x07\x1b[2J\x9b31m\u202e\r\nnext: rm -rf ~"
RAW = re.compile("[\x00-\x09\x0b-\x1f\x7f-\x9f\u202a-\u202e]")
ROOT = Path(__file__).parents[2]
MAIN = [sys.executable, "-c", "from pahi_rt.cli import main; main()"]


def assert_harmless(result: Result) -> None:
    for text in (result.stdout, result.stderr):
        assert RAW.search(text) is None, text
        assert "\nnext: rm" not in text


@pytest.fixture
def evil(edit: Callable[..., Path]) -> Path:
    """A bundle whose manifest has such text wherever text may be anything."""

    def change(data: dict[str, Any]) -> None:
        data["name"] = f"b{EVIL}"
        data["tools"] = {f"torch{EVIL}": EVIL}
        data["noise_recipe"] += EVIL
        for part in ("generator", "autoencoder"):
            data[part].update(id=f"x/{EVIL}", revision=EVIL, licence=EVIL)
        data["card"] = {
            "summary": EVIL,
            "trained_on": [EVIL],
            "licence": EVIL,
            "limits": [EVIL, ""],
            "measured": {EVIL: EVIL},
        }
        for parity in data["parity"]:
            parity["against"] = parity["tolerance"] = EVIL

    return edit(change)


@pytest.mark.parametrize("words", [["inspect"], ["bundles", "show"], ["generate", "a cat", "--bundle"]])
def test_a_manifest(run: Run, evil: Path, words: list[str]) -> None:
    result = run(*words, str(evil))
    assert "\\x1b" in result.output
    assert_harmless(result)


def test_json_is_escaped_by_itself(run: Run, evil: Path) -> None:
    result = run("bundles", "show", str(evil), "--json")
    assert_harmless(result)
    assert json.loads(result.stdout)["name"] == f"b{EVIL}"
    assert json.loads(messages.to_json("\x7f")) == "\x7f"
    assert "\x7f" not in messages.to_json("\x7f")


@pytest.mark.parametrize("field", ["prompts", "bundle", "precision"])
def test_a_picture_that_says_how_it_was_made(run: Run, field: str) -> None:
    from dataclasses import replace

    from PIL import Image

    run("generate", "a cat", "-o", "cat.png")
    drawing = read_drawing(Path("cat.png"))
    value: Any = (f"a cat {EVIL}",) if field == "prompts" else EVIL
    with Image.open("cat.png") as image:
        Path("evil.png").write_bytes(encode_png(image, replace(drawing, **{field: value})))
    result = run("generate", "--like", "evil.png")
    assert result.stderr
    assert_harmless(result)


def test_prompts_and_names(run: Run, here: Path) -> None:
    prompt = EVIL.replace("\r\n", " ")
    (here / "prompts.txt").write_text(prompt)
    (here / "dir\x1b[31m").mkdir()
    assert_harmless(run("generate", "--prompts", "prompts.txt", "-o", "dir\x1b[31m"))
    assert_harmless(run("generate", "a cat", "--bundle", EVIL))
    assert_harmless(run("inspect", f"missing{EVIL}"))


def test_what_the_library_logs_is_a_note(capsys: pytest.CaptureFixture[str]) -> None:
    with messages.notes_from_the_library():
        logging.getLogger("pahi_rt.hub").warning("%s is a commit", EVIL)
    error = capsys.readouterr().err
    assert error.startswith("note: \\x1b]0;owned")
    assert error.count("\n") == 1
    logging.getLogger("pahi_rt.hub").info("not a note")


def test_tables_and_paragraphs_are_lines() -> None:
    assert table([("a\x1b", "b"), ("c", "d\n")]) == ["a\\x1b  b", "c      d\\n"]
    assert messages.paragraph("la\tbel", "some words", width=20, hanging=10) == ["la\\tbel   some words"]
    assert messages.paragraph("label", "") == ["label         "]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full")
@pytest.mark.parametrize("words", [["bundles"], ["bundles", "--json"], ["--help"], ["inspect", "-h"], ["--version"]])
def test_a_full_output(words: list[str]) -> None:
    with open("/dev/full", "wb") as full:
        done = subprocess.run([*MAIN, *words], cwd=ROOT, stdout=full, stderr=subprocess.PIPE, text=True, timeout=60)
    error, fix = done.stderr.splitlines()
    assert error == "error: the output cannot be written: No space left on device"
    assert fix.startswith("fix: ")
    assert done.returncode == 1


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full")
@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_errors_that_nobody_can_read_stop_no_work(unbuffered: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONUNBUFFERED", unbuffered)
    with open("/dev/full", "wb") as full:
        done = subprocess.run([*MAIN, "bundles"], cwd=ROOT, stdout=subprocess.PIPE, stderr=full, text=True, timeout=60)
    assert done.returncode == 0
    assert "emoji" in done.stdout


def test_a_closed_output() -> None:
    script = "import os; os.close(1); os.execv(os.sys.argv[1], os.sys.argv[1:])"
    command = [sys.executable, "-c", script, *MAIN, "bundles"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.stderr.startswith("error: the output cannot be written: it is closed\n")
    assert done.returncode == 1


@pytest.mark.parametrize("words", [["bundles", "show", "emoji"], ["--help"]])
def test_a_reader_that_has_gone(words: list[str]) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run([*MAIN, *words], cwd=ROOT, stdout=writing, stderr=subprocess.PIPE, text=True, timeout=60)
    os.close(writing)
    assert (done.returncode, done.stderr) == (1, "")


class OutOfMemoryError(RuntimeError):
    """As in PyTorch."""


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."),
        RuntimeError("[enforce fail at alloc_cpu.cpp:127] err == 0. DefaultCPUAllocator: can't allocate memory: you"),
        RuntimeError("CUDA error: out of memory"),
    ],
)
def test_too_little_memory(run: Run, monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    def fail(_: object) -> None:
        raise error

    monkeypatch.setattr("pahi_rt.bundle.open_bundle", fail)
    result = run("inspect", "emoji")
    assert result.exit_code == 1
    assert result.stderr.startswith("error: there is not enough memory for this\nfix: ")
    assert run("inspect", "emoji", "--debug").exception is error


def test_other_errors_keep_their_traceback(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    bug = RuntimeError("mat1 and mat2 shapes cannot be multiplied")

    def fail(_: object) -> None:
        raise bug

    monkeypatch.setattr("pahi_rt.bundle.open_bundle", fail)
    assert run("inspect", "emoji").exception is bug


def test_a_working_directory_that_is_gone(tmp_path: Path) -> None:
    script = "import os; os.mkdir('x'); os.chdir('x'); os.rmdir('../x'); os.execv(os.sys.argv[1], os.sys.argv[1:])"
    command = [sys.executable, "-c", script, *MAIN, "generate", "a cat"]
    # As for the installed command, which has no such folder on its path: Python 3.13.0 cannot import extensions then.
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONSAFEPATH": "1"}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=60)
    error, fix = done.stderr.splitlines()
    assert "is not there any more" in error
    assert fix.startswith("fix: cd ")
    assert done.returncode == 1


def test_an_output_that_cannot_be_flushed_is_let_go(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def flush() -> None:
        raise OSError(28, "No space left on device")

    with open(tmp_path / "out", "wb", buffering=0) as file:
        monkeypatch.setattr("sys.stdout", SimpleNamespace(flush=flush, fileno=file.fileno))
        messages.abandon_output()
        file.write(b"goes nowhere")
    assert (tmp_path / "out").read_bytes() == b""
