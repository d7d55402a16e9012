"""Loads everything for an evaluation: runs of one recipe, or a bundle, with the recipe's prompts and scorers."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from pahi_rt.bundle import Bundle, open_bundle
from pahi_rt.errors import BundleError, PahiError, RecipeError, RunError
from pahi_rt.evaluate.contenders import Field, bundle_field, generator_field
from pahi_rt.manifest import MANIFEST
from pahi_rt.models.priors import Prior, load_prior
from pahi_rt.scorers import Scorer, load_scorer
from pahi_rt.terminal import command
from pahi_rt.train.frozen import Timed, load_models
from pahi_rt.train.prompts import Split
from pahi_rt.train.recipe import Recipe, built_in, differing, load_recipe
from pahi_rt.train.run import Run, open_run

MAY_DIFFER_IN_A_TABLE = ("prior.", "optimisation.", "pretraining.", "scorers.train")
"""Beginnings of the settings in which the runs of one table may differ."""
TEST, OTHERS = "test prompts", "other test prompts"
"""Names of the group of prompts for which the source names none: if it names no groups, and if it names others."""

Groups = Mapping[str, Sequence[str]]
"""Name of a group that is reported separately, such as unseen concepts -> its prompts."""


@dataclass(frozen=True)
class Entry:
    """Contenders, prompts and scorers of an evaluation."""

    generator: str
    """The generator in the recipe, or the bundle's name."""
    decoder: str | None
    """The decoder in the recipe; None for the generator's own, and for a bundle."""
    variant: str | None
    """The variant of the generator's weights in the recipe; None for a bundle."""
    priors: Mapping[str, str]
    """Row -> the file of its prior; empty for a bundle."""
    field: Field
    groups: Groups
    meanings: Mapping[str, str]
    """As `Split.meanings`."""
    scorers: Mapping[str, Scorer]
    """Spec -> scorer; those that trained a prior come first."""
    trained: Sequence[str]
    """Specs of the scorers that trained a prior."""
    judge: str
    """The spec of the scorer that chooses the best of several pictures."""


def enter(targets: Sequence[str | Path], recipe: str | None, stage: Timed, scorers: Sequence[str] = ()) -> Entry:
    """Load the runs in these folders, or one bundle that `open_bundle` opens with `recipe`.

    `scorers` are specs of further scorers. Raises PahiError for several targets with a bundle among them, for runs with
    a `recipe`, and as `enter_runs` and `enter_bundle` do.
    """
    bundles = [target for target in targets if not Path(target).is_dir() or (Path(target) / MANIFEST).is_file()]
    if bundles and len(targets) > 1:
        raise PahiError(f"the bundle {bundles[0]} has a table of its own", fix="evaluate it alone, or name runs only")
    if bundles:
        return enter_bundle(open_bundle(bundles[0]), recipe, stage, scorers)
    if recipe is not None:
        raise PahiError(f"{targets[0]} is evaluated by its own recipe", fix="leave out --recipe, which is for bundles")
    return enter_runs([open_run(Path(target)) for target in targets], stage, scorers)


def enter_runs(runs: Sequence[Run], stage: Timed, scorers: Sequence[str] = ()) -> Entry:
    """Load the best prior of each run so far.

    Raises RunError if a run has no prior yet, if the runs do not fit into one table, or if the prompts have changed.
    """
    priors = dict(zip(name_runs(runs), map(load_best, runs), strict=True))
    recipe = agree(runs)
    split = load_test(recipe, stage)
    for run in runs:
        if split.sha256["test"] != run.split.get("test"):
            what = f"the test prompts of {recipe.prompts.source} are not those that {run.path} held out"
            raise RunError(what, fix="put the prompts back as they were, or train in a new folder")
    trained = distinct(spec for run in runs for spec in training_specs(run.recipe))
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    models = load_models(
        recipe.generator,
        recipe.decoder,
        distinct([*trained, *recipe.scorers.evaluation, *scorers]),
        variant=recipe.variant,
        steps=recipe.steps,
        device=device,
        checkpointing=False,
        stage=stage,
    )
    field = generator_field(models.generator, priors, recipe.steps, device)
    groups, judge = held_out_groups(split), recipe.scorers.evaluation[0]
    files = {name: str(run.prior) for name, run in zip(priors, runs, strict=True)}
    return Entry(
        recipe.generator,
        recipe.decoder,
        recipe.variant,
        files,
        field,
        groups,
        split.meanings,
        models.scorers,
        trained,
        judge,
    )


def name_runs(runs: Sequence[Run]) -> list[str]:
    """Names of the rows: HI and PAHI if there is at most one of each, else the names of their folders, or of links.

    Raises PahiError if two names are the same.
    """
    for names in ([run.kind.upper() for run in runs], [os.path.basename(os.path.abspath(run.path)) for run in runs]):
        if len(set(names)) == len(runs):
            return names
    raise PahiError("two of the runs have the same name", fix="name each run once, and give their folders other names")


def load_best(run: Run) -> Prior:
    """Load the best prior of a run so far. Raises RunError if there is none yet."""
    if not run.prior.is_file():
        fix = command("pahi-rt", "train", run.kind, "--resume", "-o", run.path)
        raise RunError(f"the run in {run.path} has no prior yet", fix=fix)
    return load_prior(run.prior)


def agree(runs: Sequence[Run]) -> Recipe:
    """The first run's recipe. Raises RunError if another differs outside `MAY_DIFFER_IN_A_TABLE`."""
    first = runs[0].recipe
    for run in runs[1:]:
        names = [name for name in differing(run.recipe, first) if not name.startswith(MAY_DIFFER_IN_A_TABLE)]
        if names:
            what = f"{run.path} and {runs[0].path} do not fit into one table: {', '.join(names)} differs"
            raise RunError(what, fix="evaluate them one by one")
    return first


def enter_bundle(bundle: Bundle, recipe_name: str | None, stage: Timed, scorers: Sequence[str] = ()) -> Entry:
    """Load a bundle's priors, and the recipe that they were trained with; by default the recipe named like the bundle.

    Raises RecipeError if there is no such recipe, and BundleError if the bundle has no graph for the recipe's steps.
    """
    name = bundle.manifest.name if recipe_name is None else recipe_name
    if recipe_name is None and name not in built_in():
        what = f"there is no recipe {name!r}, so nothing says which prompts the bundle's prior was not trained on"
        raise RecipeError(what, fix=f"name the one that it was trained with: --recipe {'|'.join(built_in())}|FILE")
    recipe = load_recipe(name)
    if recipe.steps not in bundle.graphs():
        what = f"the bundle has no graph of {recipe.steps} steps, in which the recipe {name!r} draws"
        raise BundleError(what, fix=f"export it with --steps {recipe.steps}, or name another recipe")
    with stage("load bundle"):
        field = bundle_field(bundle, recipe.steps)
    split = load_test(recipe, stage)
    loaded = {}
    for spec in distinct([*training_specs(recipe), *recipe.scorers.evaluation, *scorers]):
        with stage(f"load scorer {spec}"):
            loaded[spec] = load_scorer(spec)
    groups, judge = held_out_groups(split), recipe.scorers.evaluation[0]
    name, trained = bundle.manifest.name, training_specs(recipe)
    return Entry(name, None, None, {}, field, groups, split.meanings, loaded, trained, judge)


def load_test(recipe: Recipe, stage: Timed) -> Split:
    """Load the prompts, split as the recipe says."""
    with stage("load prompts"):
        return recipe.prompts.load()


def held_out_groups(split: Split) -> Groups:
    """The test prompts in the groups that their source names, and a further group for the rest."""
    marked = {prompt for prompts in split.groups.values() for prompt in prompts}
    rest = [prompt for prompt in split.test if prompt not in marked]
    groups: dict[str, Sequence[str]] = {name: prompts for name, prompts in split.groups.items() if prompts}
    return {**groups, OTHERS if groups else TEST: rest} if rest else groups


def training_specs(recipe: Recipe) -> list[str]:
    """Specs of the scorers with a weight above 0 in the loss."""
    return [spec for spec, weight in recipe.scorers.train.items() if weight]


def distinct(specs: Iterable[str]) -> list[str]:
    """The distinct specs, in order."""
    return list(dict.fromkeys(specs))
