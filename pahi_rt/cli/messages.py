"""Messages of the verbs: results on standard output, everything else on standard error.

All text is printed from here. Control characters, in text from files, the hub or other libraries, become escapes.
"""

from __future__ import annotations

import json
import logging
import os
import shutil
import sys
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TextIO

import typer

from pahi_rt.errors import OutputError, PahiError
from pahi_rt.terminal import command, printable


def result(*lines: str) -> None:
    """Print lines of the result. File names need not be valid Unicode, nor the locale UTF-8. Raises OutputError."""
    _write("".join(printable(line) + "\n" for line in lines).encode("utf-8", "surrogateescape"))


def document(data: object) -> None:
    """Print the result as one JSON document. Raises OutputError."""
    _write((to_json(data, indent=2) + "\n").encode())


def binary(content: bytes) -> None:
    """Write the result as bytes. Raises OutputError."""
    _write(content)


def to_json(data: object, indent: int | None = None) -> str:
    """JSON in printable ASCII; without `indent`, on one line without spaces."""
    text = json.dumps(data, indent=indent, separators=None if indent else (",", ":"))
    return text.replace("\x7f", "\\u007f")  # the only control character that json does not escape


def say(line: str) -> None:
    """Print a line on standard error. The work goes on if nobody can read it."""
    with suppress(OSError):
        typer.echo(printable(line), err=True)


def show_live(line: str) -> None:
    """Show a line on a terminal, which `clear_live` removes again."""
    with suppress(OSError):
        typer.echo(printable(line), err=True, nl=False)


def clear_live() -> None:
    """Clear the line that the cursor is in."""
    with suppress(OSError):
        typer.echo("\r\x1b[K", err=True, nl=False)


def note(text: str, fix: str | None = None) -> None:
    """Tell something that the user should know, and the fix if there is one."""
    say(f"note: {text}")
    if fix is not None:
        say(f"fix: {fix}")


class _Notes(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        note(record.getMessage())


@contextmanager
def notes_from_the_library() -> Iterator[None]:
    """Inside this context, warnings that the library logs are shown as notes."""
    logger, handler = logging.getLogger("pahi_rt"), _Notes(logging.WARNING)
    logger.addHandler(handler)
    try:
        yield
    finally:
        logger.removeHandler(handler)


def stage(name: str, seconds: float, size: int | None = None) -> None:
    """Report that a long step is done. `size` is the number of bytes that it wrote."""
    say(f"{name}  {seconds:.1f} s{'' if size is None else ', ' + megabytes(size)}")


def next_command(*words: str) -> None:
    """Suggest the next command: a verb and its arguments, as they can be typed here."""
    say(f"next: {command(_program(), *words)}")


def _program() -> str:
    """The name of this command, or its path if the shell would not find it, as with .venv/bin/pahi-rt."""
    typed = Path(sys.argv[0])
    return str(typed) if typed.name == "pahi-rt" and shutil.which("pahi-rt") is None else "pahi-rt"


def problem(error: PahiError) -> None:
    """Print what went wrong, and how to fix it."""
    say(f"error: {error.what}")
    say(f"fix: {error.fix}")


def _write(content: bytes) -> None:
    if is_closed():
        raise lost_output("it is closed")
    try:
        typer.echo(content, nl=False)
    except BrokenPipeError:
        raise
    except OSError as error:
        raise lost_output(error.strerror or str(error)) from error


def lost_output(reason: str) -> OutputError:
    """The error for a result that cannot be written to standard output."""
    return OutputError(f"the output cannot be written: {reason}", fix="free some space, or send it elsewhere")


def abandon_output() -> None:
    """If standard output is broken, keep Python from flushing it, and complaining, again at exit."""
    _abandon(sys.stdout)


def abandon_errors() -> None:
    """The same for standard error. Otherwise work that is done would end with exit code 120."""
    _abandon(sys.stderr)


def _abandon(stream: TextIO | None) -> None:
    if stream is None:  # it was closed from the start
        return
    try:
        stream.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def is_closed() -> bool:
    """Whether this process was started without a standard output."""
    return getattr(sys, "stdout", None) is None


def paragraph(label: str, text: str, width: int = 100, hanging: int = 14) -> list[str]:
    """`text`, wrapped beside its label, as lines."""
    start = printable(label).ljust(hanging)
    return textwrap.wrap(printable(text), width, initial_indent=start, subsequent_indent=" " * hanging) or [start]


def counted(number: int, noun: str) -> str:
    """A number of things, such as "1 shard" or "2 shards"."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def megabytes(size: int) -> str:
    """A number of bytes in words, such as "1.6 MB"."""
    return f"{size / 1e6:.1f} MB" if size >= 100_000 else f"{size / 1e3:.1f} kB"
