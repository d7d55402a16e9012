"""Options that several verbs share."""

from __future__ import annotations

from typing import Annotated

import typer

DEBUG = "pahi_rt.debug"
"""Key of the context's `meta`, where the error handler looks."""


def _remember(context: typer.Context, wanted: bool) -> bool:
    context.meta[DEBUG] = wanted or context.meta.get(DEBUG, False)
    return wanted


Debug = Annotated[
    bool, typer.Option("--debug", envvar="PAHI_DEBUG", callback=_remember, help="Show the traceback of an error.")
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON document instead of text.")]
BundleName = Annotated[
    str,
    typer.Argument(metavar="BUNDLE", help="A built-in bundle's name, a folder, a .zip, or hub:owner/name@rev."),
]
