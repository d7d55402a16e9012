"""Options that several verbs share."""

from __future__ import annotations

import re
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from pahi_rt.errors import PahiError

DEBUG = "pahi_rt.debug"
"""Key of the context's `meta` under which the error handler finds --debug."""

_HOME = re.compile(r"""(?:^|(?<=[=:"']))~[^/\s"']*(?=/|$)""")


def _remember(context: typer.Context, wanted: bool) -> bool:
    context.meta[DEBUG] = wanted or context.meta.get(DEBUG, False)
    return wanted


def expand(text: str) -> Path:
    """A path with ~ expanded, which shells do not do in --output=~/x. Raises PahiError for an unknown home."""
    try:
        return Path(text).expanduser()
    except RuntimeError as error:
        raise PahiError(f"{text}: there is no such home", fix="write the whole path") from error


def expand_name(text: str) -> str:
    """The same for a text that may be a path, a name, an id, or a path after "kind:" or "key="."""
    return _HOME.sub(lambda found: str(expand(found[0])), text)


def given_options(context: typer.Context) -> dict[str, tuple[str, ...]]:
    """Each option of this command line, by its parameter, as the words that give it again."""
    found = {}
    for option in context.command.params:
        source = context.get_parameter_source(option.name or "")
        if option.name and option.param_type_name == "option" and source and source.name == "COMMANDLINE":
            value, flag = context.params[option.name], option.opts[0]
            values = value if isinstance(value, (list, tuple)) else [value]
            found[option.name] = tuple(
                word for one in values for word in ((flag,) if isinstance(one, bool) else (flag, str(one)))
            )
    return found


PathOption = partial(typer.Option, parser=expand)
NameOption = partial(typer.Option, parser=expand_name)
NameArgument = partial(typer.Argument, parser=expand_name)

Debug = Annotated[
    bool, typer.Option("--debug", envvar="PAHI_DEBUG", callback=_remember, help="Show the traceback of an error.")
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON document instead of text.")]
BundleName = Annotated[
    str,
    NameArgument(metavar="BUNDLE", help="A built-in name, a folder, a .zip, or hub:owner/name@rev."),
]
