"""The command line: `pahi-rt VERB`, one file for each verb.

Results go to standard output, everything else to standard error. What the user can mend is a PahiError, which
becomes two lines and exit code 1 here and nowhere else; wrong usage exits with 2; the rest is a bug of ours and
keeps its traceback. Verbs import what they need inside the function, so that `--help` is instant.
"""

from __future__ import annotations

from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from pahi_rt import __version__
from pahi_rt.cli import (
    bench,
    build,
    bundles,
    doctor,
    embed,
    evaluate,
    export,
    generate,
    inspect,
    messages,
    options,
    train,
)
from pahi_rt.errors import PahiError


class Verbs(TyperGroup):
    """Runs a verb and tells what went wrong."""

    def invoke(self, ctx: Any) -> Any:
        try:
            with messages.notes_from_the_library():
                return super().invoke(ctx)
        except PahiError as error:
            if ctx.meta.get(options.DEBUG):
                raise
            messages.problem(error)
            raise typer.Exit(1) from None


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


app = typer.Typer(
    name="pahi-rt",
    cls=Verbs,
    callback=_start,
    no_args_is_help=True,
    rich_markup_mode=None,  # the boxes that rich draws around help cost half of its time
    pretty_exceptions_enable=False,  # its tracebacks would print prompts and hide our frames
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command()(generate.generate)
app.add_typer(bundles.app)
app.command()(inspect.inspect)
app.command()(export.export)
app.command()(build.build)
app.add_typer(embed.app)
app.command()(train.train)
app.command()(evaluate.evaluate)
app.add_typer(bench.app)
app.command()(doctor.doctor)


def main() -> None:
    """Entry point of the `pahi-rt` command."""
    app()
