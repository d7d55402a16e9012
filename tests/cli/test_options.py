"""The options of a command line, given again."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import pytest
import typer
from typer.testing import CliRunner

from pahi_rt.cli.options import Debug, PathOption, given_options


def test_what_was_given_can_be_given_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PAHI_DEBUG", "1")
    found = {}
    app = typer.Typer()

    @app.command()
    def verb(
        context: typer.Context,
        name: str,
        number: int = 3,
        left_out: str = "x",
        flag: Annotated[bool, typer.Option("--flag")] = False,
        several: Annotated[list[str] | None, typer.Option()] = None,
        output: Annotated[Path | None, PathOption("-o", "--output")] = None,
        debug: Debug = False,
    ) -> None:
        found.update(given_options(context))

    words = ["n", "--number", "4", "--several", "a", "--flag", "--several", "b c", "--output", "f.json"]
    assert CliRunner().invoke(app, words).exit_code == 0
    assert found == {
        "number": ("--number", "4"),
        "flag": ("--flag",),
        "several": ("--several", "a", "--several", "b c"),
        "output": ("-o", "f.json"),
    }
