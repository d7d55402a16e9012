"""A verb of several commands, and the command line itself: how their help lists what they hold."""

from __future__ import annotations

from typing import Any

from typer.core import TyperGroup

_LONGEST = 200
"""Characters of a first sentence."""


class Group(TyperGroup):
    """Lists each command with its whole first sentence, which typer would cut off at the end of the line."""

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """Write the list."""
        found = [(name, self.get_command(ctx, name)) for name in self.list_commands(ctx)]
        rows = [(name, command.get_short_help_str(_LONGEST)) for name, command in found if command is not None]
        with formatter.section("Commands"):
            formatter.write_dl(rows)
