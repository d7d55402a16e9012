"""docs/commands.md: the reference of the command line, from the app itself. `python -m tests.messages` writes it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import typer.main

from pahi_rt.cli import app

HEAD = """# Commands

<!-- Written by `python -m tests.messages` from the app. -->

`pahi-rt COMMAND --help` shows the same. Results go to standard output, everything else to standard error; `--json`
gives one JSON document. A problem that you can fix ends with `error:`, `fix:` and exit status 1, wrong usage with 2.
Every command also has `--debug`, which shows the traceback of an error.
"""


def list_commands() -> str:
    """The page."""
    return "\n".join([HEAD, *_sections(typer.main.get_command(app).commands, "pahi-rt")])  # type: ignore[attr-defined]


def _sections(commands: dict[str, Any], group: str) -> Iterator[str]:
    for verb, command in commands.items():
        name = f"{group} {verb}"
        context = command.make_context(name, [], resilient_parsing=True)
        usage = " ".join([name, *command.collect_usage_pieces(context)])
        yield f"{'#' * (1 + name.count(' '))} {name}\n\n`{usage}`\n\n{_paragraphs(command.help or '')}\n"
        yield from _table(command, context)
        yield from _sections(getattr(command, "commands", {}), name)


def _paragraphs(text: str) -> str:
    """A help text without typer's marks; a paragraph whose lines it keeps becomes a block of code."""
    kept = (("    " + p.strip("\b\n").replace("\n", "\n    ") if "\b" in p else p) for p in text.split("\n\n"))
    return "\n\n".join(kept)


def _table(command: Any, context: Any) -> Iterator[str]:
    parameters = [p for p in command.get_params(context) if p.name not in ("help", "debug")]
    rows = [_row(record) for p in parameters if (record := p.get_help_record(context))]
    if rows:
        yield "\n".join(["| | |", "| --- | --- |", *rows]) + "\n"


def _row(record: tuple[str, str]) -> str:
    names, text = (part.replace("|", "\\|") for part in record)
    return f"| `{names}` | {text} |"
