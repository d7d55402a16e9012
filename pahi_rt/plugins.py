"""Plugins: scorers, prompts, generators and recipes of other installed packages, each an entry point of their metadata.

[project.entry-points."pahi_rt.scorers"]     # loads a Scorer: loader(path_or_hub_id | None)
my-scorer = "my_package.scorer:load"
[project.entry-points."pahi_rt.prompts"]     # splits its own prompts: split(validation, test, seed) -> Split
my-prompts = "my_package.prompts:split"
[project.entry-points."pahi_rt.generators"]  # the folder of a diffusers pipeline: folder() -> Path
my-generator = "my_package:generator"
[project.entry-points."pahi_rt.recipes"]     # the path of a recipe's TOML file
my-recipe = "my_package:RECIPE"
"""

from __future__ import annotations

from importlib.metadata import EntryPoint, entry_points  # noqa: TID251 - entry points, and not a version
from typing import Any

from pahi_rt.errors import PahiError
from pahi_rt.terminal import command

SCORERS, PROMPTS = "pahi_rt.scorers", "pahi_rt.prompts"
GENERATORS, RECIPES = "pahi_rt.generators", "pahi_rt.recipes"


def find_plugins(group: str) -> dict[str, EntryPoint]:
    """Name -> entry point of a group: SCORERS, PROMPTS, GENERATORS or RECIPES. Imports nothing yet."""
    return {entry.name: entry for entry in entry_points(group=group)}


def load_plugin(entry: EntryPoint) -> Any:
    """Import the object that an entry point names. Raises PahiError with the reason if that fails."""
    try:
        return entry.load()
    except (ImportError, AttributeError) as error:
        package = entry.dist.name if entry.dist else entry.module
        what = f"{entry.name} of the package {package} cannot be loaded: {error}"
        fix = f"install it again: {command('pip', 'install', '--force-reinstall', '--no-deps', package)}"
        raise PahiError(what, fix=fix) from error
