"""The verbs of the command line, as the app itself lists them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import typer.main

from pahi_rt.cli import app


def list_verbs() -> list[str]:
    """Every verb, such as "generate" and "bundles show"; groups too, and first "" for the program itself."""
    return list(_walk(typer.main.get_command(app), ""))


def _walk(command: Any, name: str) -> Iterator[str]:
    yield name
    for verb, inner in getattr(command, "commands", {}).items():
        yield from _walk(inner, f"{name} {verb}".strip())


def parse(words: Sequence[str]) -> Any:
    """The context of the verb that the words of a command line call, without calling it. Raises click's UsageError."""
    command: Any = typer.main.get_command(app)
    rest = list(words)
    while rest and rest[0] in getattr(command, "commands", {}):
        command = command.commands[rest.pop(0)]
    return command.make_context(command.name, rest)
