"""The commands and programs that the README and docs/ show: they can be typed, and those that need no model run."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest
from typer.testing import CliRunner

from pahi_rt.cli import app
from tests.cli.verbs import parse

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", ROOT / "CHANGELOG.md", ROOT / "emoji_model" / "README.md", *(ROOT / "docs").glob("*.md")]
BUNDLE = ROOT / "docs" / "bundle.md"
CONTRACT = ROOT / "tests" / "data" / "contract"
FIRST = [ROOT / "README.md", ROOT / "docs" / "start.md", ROOT / "docs" / "emoji.md"]
"""What is read first, and so typed."""
RUN = ("generate", "bundles", "inspect", "doctor")


def blocks(page: Path, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", page.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)


def commands(page: Path) -> Iterator[list[str]]:
    """The words of every `pahi-rt` command in the page's blocks of shell, without comments and redirections."""
    for block in [*blocks(page, ""), *blocks(page, "sh"), *blocks(page, "bash")]:
        for line in block.replace("\\\n", " ").split("\n"):
            if re.match(r"(\.venv/bin/)?pahi-rt ", line):
                yield shlex.split(line.split(" > ")[0].split(" | ")[0], comments=True)[1:]


SHOWN = [pytest.param(words, id=f"{page.name}: {' '.join(words)}") for page in PAGES for words in commands(page)]


def polygraphy_commands() -> list[list[str]]:
    lines = [line for block in blocks(BUNDLE, "sh") for line in block.splitlines()]
    return [shlex.split(line)[1:] for line in lines if line.startswith("polygraphy ")]


@pytest.mark.parametrize("words", polygraphy_commands(), ids=" ".join)
def test_the_commands_of_polygraphy_run(words: list[str]) -> None:
    program = Path(sys.executable).parent / "polygraphy"
    if find_spec("polygraphy") is None or not program.exists():
        pytest.skip("polygraphy is not installed")
    typed = [word.replace("BUNDLE", str(CONTRACT)) for word in words]
    done = subprocess.run([sys.executable, str(program), *typed], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr


def test_polygraphy_is_shown_at_work() -> None:
    assert [words[0] for words in polygraphy_commands()] == ["inspect", "run"]


@pytest.mark.parametrize("words", SHOWN)
def test_every_command_can_be_typed(words: list[str]) -> None:
    parse(words)


@pytest.mark.parametrize("page", FIRST, ids=lambda page: page.name)
def test_the_first_commands_draw(page: Path, here: Path) -> None:
    """In their order: one repeats a picture that another has drawn."""
    run = [words for words in commands(page) if words[0] in RUN and "--bundle" not in words]
    assert run
    for words in run:
        result = CliRunner().invoke(app, words)
        assert result.exit_code == 0, (words, result.output)


@pytest.mark.parametrize("page", FIRST[:2], ids=lambda page: page.name)
def test_the_first_programs_run(page: Path, here: Path) -> None:
    found = blocks(page, "python")
    assert found
    for block in found:
        exec(compile(block, page.name, "exec"), {})
