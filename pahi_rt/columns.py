"""The column of a table that holds the prompts."""

from __future__ import annotations

from collections.abc import Sequence

from pahi_rt.errors import PromptError

COLUMNS = ("prompt", "caption", "text")
"""Names of the column of prompts in a table, in any case. The first one that is there is read."""


def find_column(names: Sequence[str], source: str) -> str:
    """The first of COLUMNS among `names`. Raises PromptError that names `source` if there is none."""
    found = {name.strip().lower(): name for name in reversed(names)}
    for column in COLUMNS:
        if column in found:
            return found[column]
    listed = ", ".join(map(repr, names)) or "none"
    fix = f"name the column of prompts {' or '.join(COLUMNS)}"
    raise PromptError(f"{source} has no column of prompts, only {listed}", fix=fix)
