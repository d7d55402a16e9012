"""What verbs say: results on standard output, the rest on standard error."""

from __future__ import annotations

import json
import logging
import shlex
import shutil
import sys
import textwrap
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import typer

from pahi_rt.errors import PahiError


def result(text: str) -> None:
    """A line of the result, byte for byte: file names need not be valid Unicode, nor the locale UTF-8."""
    typer.echo(text.encode("utf-8", "surrogateescape"))


def document(data: object) -> None:
    """The result as one JSON document."""
    typer.echo(json.dumps(data, indent=2))


def note(text: str) -> None:
    """Something the user should know."""
    typer.echo(f"note: {text}", err=True)


class _Notes(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        note(record.getMessage())


@contextmanager
def notes_from_the_library() -> Iterator[None]:
    """What the library logs is shown as notes."""
    logger, handler = logging.getLogger("pahi_rt"), _Notes(logging.WARNING)
    logger.addHandler(handler)
    try:
        yield
    finally:
        logger.removeHandler(handler)


def stage(name: str, seconds: float, size: int | None = None) -> None:
    """A long step is done; `size` is the bytes that it wrote."""
    typer.echo(f"{name}  {seconds:.1f} s{'' if size is None else ', ' + megabytes(size)}", err=True)


def next_command(*words: str) -> None:
    """The verb and its words that are useful after this one, as they can be typed here."""
    typer.echo(f"next: {shlex.join([_program(), *words])}", err=True)


def _program() -> str:
    """The name of this command; its path where the shell would not find it, as in .venv/bin/pahi-rt."""
    typed = Path(sys.argv[0])
    return str(typed) if typed.name == "pahi-rt" and shutil.which("pahi-rt") is None else "pahi-rt"


def problem(error: PahiError) -> None:
    """What went wrong, and what mends it."""
    typer.echo(f"error: {error.what}\nfix: {error.fix}", err=True)


def table(rows: Iterable[Sequence[object]], indent: str = "") -> str:
    """Rows of cells in aligned columns, two spaces apart."""
    cells = [[str(cell) for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    lines = ("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in cells)
    return "\n".join((indent + line).rstrip() for line in lines)


def paragraph(label: str, text: str, width: int = 100, hanging: int = 14) -> str:
    """`text` wrapped beside its label."""
    return textwrap.fill(text, width, initial_indent=label.ljust(hanging), subsequent_indent=" " * hanging)


def megabytes(size: int) -> str:
    """A number of bytes for people."""
    return f"{size / 1e6:.1f} MB" if size >= 100_000 else f"{size / 1e3:.1f} kB"
