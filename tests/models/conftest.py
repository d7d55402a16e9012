"""The toy in a generator's place, and recipes for it."""

from tests.toys import make_recipe, one_thread, recipe, toy_models

__all__ = ["make_recipe", "one_thread", "recipe", "toy_models"]
