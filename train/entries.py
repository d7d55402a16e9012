"""What enters an evaluation: a run or a bundle, and the prompts and scorers of its recipe."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from pahi_rt.bundle import MANIFEST, Bundle, open_bundle
from pahi_rt.errors import PahiError
from pahi_rt.train.contenders import Field, bundle_field, generator_field
from pahi_rt.train.models import Timed, load_models
from pahi_rt.train.priors import load_prior
from pahi_rt.train.prompts import Split, load_split
from pahi_rt.train.recipe import Recipe, built_in, load_recipe
from pahi_rt.train.run import Run, open_run
from pahi_rt.train.scorers import Scorer, load_scorer

TEST, OTHERS = "test prompts", "other test prompts"
"""Names of groups that the source of the prompts does not mark."""

Groups = Mapping[str, Sequence[str]]
"""Name -> prompts of a group that is reported apart, such as unseen concepts."""


@dataclass(frozen=True)
class Entry:
    """What draws, on which prompts, and who judges."""

    field: Field
    groups: Groups
    scorers: Mapping[str, Scorer]
    """By spec; those that trained a prior first."""
    trained: Sequence[str]
    """Specs of the scorers that trained a prior."""
    judge: str
    """The spec of the scorer that chooses the best of several pictures."""


def enter(target: str | Path, recipe: str | None, stage: Timed, scorers: Sequence[str] = ()) -> Entry:
    """The run in a folder, or the bundle that `open_bundle` opens with `recipe`; `scorers` are specs of further ones.

    Raises PahiError.
    """
    if not Path(target).is_dir() or (Path(target) / MANIFEST).is_file():
        return enter_bundle(open_bundle(target), recipe, stage, scorers)
    if recipe is not None:
        raise PahiError(f"{target} is evaluated by its own recipe", fix="leave out --recipe, which is for bundles")
    return enter_run(open_run(Path(target)), stage, scorers)


def enter_run(run: Run, stage: Timed, scorers: Sequence[str] = ()) -> Entry:
    """The best prior of a run so far. PahiError if there is none, or if the test prompts are no longer the same."""
    recipe = run.recipe
    if not run.prior.is_file():
        fix = f"pahi-rt train {run.kind} --resume -o {run.path}"
        raise PahiError(f"the run in {run.path} has no prior yet", fix=fix)
    prior = load_prior(run.prior)
    split = load_test(recipe, stage)
    if split.sha256["test"] != run.split.get("test"):
        what = f"the test prompts of {recipe.prompts.source} are not those that {run.path} held out"
        raise PahiError(what, fix="put the prompts back as they were, or train in a new folder")
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    models = load_models(
        recipe.generator,
        recipe.decoder,
        scorer_specs(recipe, scorers),
        steps=recipe.steps,
        device=device,
        checkpointing=False,
        stage=stage,
    )
    field = generator_field(models.generator, {run.kind.upper(): prior}, recipe.steps, device)
    return Entry(field, held_out_groups(split), models.scorers, training_specs(recipe), recipe.scorers.evaluation[0])


def enter_bundle(bundle: Bundle, recipe_name: str | None, stage: Timed, scorers: Sequence[str] = ()) -> Entry:
    """A bundle's priors, and the recipe that they were trained with: the one of the bundle's name if none is named."""
    name = bundle.manifest.name if recipe_name is None else recipe_name
    if recipe_name is None and name not in built_in():
        what = f"there is no recipe {name!r}, so nothing says which prompts the bundle's prior was not trained on"
        raise PahiError(what, fix=f"name the one that it was trained with: --recipe {'|'.join(built_in())}|FILE")
    recipe = load_recipe(name)
    if recipe.steps not in bundle.graphs():
        what = f"the bundle has no graph of {recipe.steps} steps, in which the recipe {name!r} draws"
        raise PahiError(what, fix=f"export it with --steps {recipe.steps}, or name another recipe")
    with stage("load bundle"):
        field = bundle_field(bundle, recipe.steps)
    split = load_test(recipe, stage)
    loaded = {}
    for spec in scorer_specs(recipe, scorers):
        with stage(f"load scorer {spec}"):
            loaded[spec] = load_scorer(spec)
    return Entry(field, held_out_groups(split), loaded, training_specs(recipe), recipe.scorers.evaluation[0])


def load_test(recipe: Recipe, stage: Timed) -> Split:
    """The prompts as the recipe splits them."""
    settings = recipe.prompts
    with stage("load prompts"):
        return load_split(settings.source, settings.validation, settings.test, settings.seed)


def held_out_groups(split: Split) -> Groups:
    """The test prompts, in the groups that their source marks; those that are in none of them by themselves."""
    marked = {prompt for prompts in split.groups.values() for prompt in prompts}
    rest = [prompt for prompt in split.test if prompt not in marked]
    groups: dict[str, Sequence[str]] = {name: prompts for name, prompts in split.groups.items() if prompts}
    return {**groups, OTHERS if groups else TEST: rest} if rest else groups


def scorer_specs(recipe: Recipe, more: Sequence[str] = ()) -> list[str]:
    """All scorers of a recipe, those that train first, and then `more`."""
    return list(dict.fromkeys([*training_specs(recipe), *recipe.scorers.evaluation, *more]))


def training_specs(recipe: Recipe) -> list[str]:
    """The scorers that have a weight in the loss."""
    return [spec for spec, weight in recipe.scorers.train.items() if weight]
