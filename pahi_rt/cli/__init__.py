"""The command line: `pahi-rt VERB`, one file for each verb.

Results go to standard output, everything else to standard error. A problem that the user can fix is a PahiError; here,
and nowhere else, it becomes two lines and exit code 1. Wrong usage exits with 2. Any other exception is a bug of ours
and keeps its traceback. Verbs import what they need inside the function, so that `--help` is instant, and a command
line that names a verb loads no other.
"""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from importlib import import_module
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pahi_rt import __version__
from pahi_rt.cli import messages, options
from pahi_rt.cli.group import Group
from pahi_rt.errors import PahiError, is_out_of_memory

VERBS = (
    *("generate", "bulk", "bundles", "serve", "inspect", "export", "export-scorer"),
    *("build", "qualify", "embed", "train", "evaluate", "bench", "doctor"),
)
"""In the order of --help. Each has a module (_ for -) with a function of its name, or with an `app` of several."""
if TYPE_CHECKING:
    app: typer.Typer
    """The whole command line."""


class Verbs(Group):
    """Runs a verb and reports what went wrong."""

    def list_commands(self, ctx: Any) -> list[str]:
        """The verbs in their order; typer would put those of several commands last."""
        return [verb for verb in VERBS if verb in self.commands]

    def make_context(self, *args: Any, **kwargs: Any) -> Any:
        with _reported({}):  # --help and --version print while the context is made
            return super().make_context(*args, **kwargs)

    def invoke(self, ctx: Any) -> Any:
        with _reported(ctx.meta), messages.notes_from_the_library():
            return super().invoke(ctx)


@contextmanager
def _reported(meta: Mapping[str, Any]) -> Iterator[None]:
    try:
        yield
    except (PahiError, MemoryError, RuntimeError, OSError) as error:
        problem = _as_problem(error)
        if problem is None or meta.get(options.DEBUG):
            raise
        messages.problem(problem)
        messages.abandon_output()
        raise typer.Exit(1) from None


def _as_problem(error: PahiError | MemoryError | RuntimeError | OSError) -> PahiError | None:
    """The problem that the user can fix. None for a bug of ours, and for a closed pipe, which typer ends silently."""
    if isinstance(error, PahiError):
        return error
    if is_out_of_memory(error):
        return PahiError("there is not enough memory for this", fix="close other programs, or ask for less at once")
    if not isinstance(error, OSError):
        return None
    # From typer when it prints a help text, or from any code that finds the disk full.
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EIO):
        return messages.lost_output(os.strerror(error.errno))
    if isinstance(error, FileNotFoundError) and _has_no_place():
        return PahiError("the folder that this was started in is not there any more", fix="cd to another one")
    return None


def _has_no_place() -> bool:
    try:
        os.getcwd()
    except FileNotFoundError:
        return True
    return False


def _print_version(wanted: bool) -> None:
    if wanted:
        messages.result(f"pahi-rt {__version__}")
        raise typer.Exit


def _start(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    """Draw pictures from words in one denoising step, offline and without PyTorch."""


def make_app(verbs: Iterable[str] = VERBS) -> typer.Typer:
    """The command line with these verbs."""
    made = typer.Typer(
        name="pahi-rt",
        cls=Verbs,
        callback=_start,
        no_args_is_help=True,
        rich_markup_mode=None,  # rich's boxes would double the time that --help takes
        pretty_exceptions_enable=False,  # typer's tracebacks would print prompts and hide our frames
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    for verb in verbs:
        name = verb.replace("-", "_")
        module = import_module(f"{__name__}.{name}")
        if hasattr(module, "app"):
            made.add_typer(module.app)
        else:
            made.command()(getattr(module, name))
    return made


def __getattr__(name: str) -> Any:
    if name != "app":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return globals().setdefault(name, make_app())


def main() -> None:
    """Entry point of the `pahi-rt` command."""
    named = sys.argv[1:2]
    try:
        make_app(named if named and named[0] in VERBS else VERBS)()
    finally:
        messages.abandon_errors()
