"""What other installed packages add to pahi-rt: scorers, prompts and recipes, each an entry point of their metadata.

[project.entry-points."pahi_rt.scorers"]     # loads a Scorer: loader(path_or_hub_id | None)
my-scorer = "my_package.scorer:load"
[project.entry-points."pahi_rt.prompts"]     # splits its own prompts: split(validation, test, seed) -> Split
my-prompts = "my_package.prompts:split"
[project.entry-points."pahi_rt.recipes"]     # the path of a recipe's TOML file
my-recipe = "my_package:RECIPE"
"""

from __future__ import annotations

from importlib.metadata import EntryPoint, entry_points  # noqa: TID251 - entry points, and not a version
from typing import Any

from pahi_rt.errors import PahiError

SCORERS, PROMPTS, RECIPES = "pahi_rt.scorers", "pahi_rt.prompts", "pahi_rt.recipes"


def find_plugins(group: str) -> dict[str, EntryPoint]:
    """The entry points of SCORERS, PROMPTS or RECIPES by their names. Nothing is imported yet."""
    return {entry.name: entry for entry in entry_points(group=group)}


def load_plugin(entry: EntryPoint) -> Any:
    """Import what an entry point names. Raises PahiError with the reason where its package cannot be imported."""
    try:
        return entry.load()
    except (ImportError, AttributeError) as error:
        package = entry.dist.name if entry.dist else entry.module
        what = f"{entry.name} of the package {package} cannot be loaded: {error}"
        raise PahiError(what, fix=f"install it again: pip install --force-reinstall --no-deps {package}") from error
