"""A recipe: every setting of a training run, in one TOML file.

    load_recipe("sd-turbo", ["optimisation.batch=36"]) -> Recipe -> to_toml -> the same Recipe

The dataclasses below are the format: one table for each of them, one key for each field, and nothing else. The text
"none" leaves out a setting that is optional. A path that starts with ./ or ../ is relative to the recipe's folder, and
in an override to the current folder.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from pahi_rt import plugins
from pahi_rt.errors import RecipeError
from pahi_rt.plugins import find_plugins, load_plugin
from pahi_rt.schema import Range, read_value
from pahi_rt.train.prompts import Split, load_split
from pahi_rt.train.settings import TomlPlace, emit

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

Count = Annotated[int, Range(1)]
Seed = Annotated[int, Range(0, 2**63 - 1)]
NotNegative = Annotated[float, Range(0)]
Positive = Annotated[float, Range(0, exclusive=True)]
Autocast = Literal["auto", "no", "bf16", "fp16"]


@dataclass(frozen=True)
class PromptSettings:
    """The prompts and how they are split."""

    source: str
    """"pick-a-pic", a plugin's name, "hub:owner/name", or a file: txt, csv, tsv, jsonl or parquet."""
    validation: Count = 500
    test: Count = 500
    seed: Seed = 0

    def load(self) -> Split:
        """Load and split them. Raises PromptError as `load_split` does."""
        return load_split(self.source, self.validation, self.test, self.seed)


@dataclass(frozen=True)
class Scorers:
    """The preference scorers, each "kind" or "kind:PATH_OR_HUB_ID"."""

    train: dict[str, NotNegative]
    """Scorer -> its weight in the loss, relative to the others."""
    evaluation: tuple[str, ...]
    """The mean of their losses on the validation prompts decides when to stop."""


@dataclass(frozen=True)
class PriorSettings:
    """The prior to train. HI has no networks: it reads only `sigma_bound` and `low_frequency`."""

    hidden: Count = 144
    """Width of PAHI's two networks."""
    init: Literal["pretrain", "zero"] = "pretrain"
    """Start: "pretrain", the paper's eq. (10), or "zero", exactly the standard Gaussian."""
    standardise: bool = False
    """Whether to scale every feature of the text embedding to mean 0 and standard deviation 1 over the training
    prompts."""
    sigma_bound: Annotated[float, Range(0, 1, exclusive=True)] | None = None
    """b in sigma = 1 + b tanh(.). Without it sigma is free, as in the paper."""
    low_frequency: Count | None = None
    """k: mu and sigma come from the k x k lowest cosines of each channel. Without it every value is free."""


@dataclass(frozen=True)
class Optimisation:
    """Adam on eq. (4). The defaults are the paper's wherever it gives a value."""

    batch: Count = 72
    """Prompts of one step, over all processes and micro-batches."""
    micro_batch: Count | Literal["auto"] = "auto"
    """Prompts that one process draws at once: decides memory and speed, not the result. "auto": as many as fit."""
    learning_rate: Positive = 1e-4
    """Rate after the warm-up. The paper does not give it."""
    warmup_from: NotNegative = 1e-5
    """Rate at the first step."""
    warmup_steps: Annotated[int, Range(0)] = 10_000
    """Steps over which the rate rises linearly."""
    evaluate_every: Count = 1000
    """Steps between evaluations."""
    patience: Count = 5
    """Training stops after this many evaluations in a row without a new lowest loss."""
    max_steps: Count = 200_000
    """Training stops after this many steps at the latest. The paper has no such limit."""
    kl_weight: NotNegative = 0.0
    """Loss per nat of KL to the standard Gaussian. The paper has none."""
    noise: Literal["fresh", "shared", "antithetic"] = "fresh"
    """How the noise of s' relates to that of s. "fresh", independent, is the paper's."""
    gradient: Literal["pathwise", "clipped", "score-function", "mixed"] = "pathwise"
    """How the gradient is estimated (`train.gradients`). "pathwise", by backpropagation, is the paper's."""
    scale: Positive | None = None
    """Replaces each scorer's own factor in the exponent of eq. (4)."""
    gradient_checkpointing: bool = False
    """Whether to use less memory for a third more work."""
    autocast: Autocast = "no"
    """Type of the forward pass; "no" is float32. "auto": bf16 where the device has instructions for it, else "no"."""
    compile: bool = False
    """Whether to run the UNet and the decoder through torch.compile."""
    seed: Seed = 0


@dataclass(frozen=True)
class Pretraining:
    """Eq. (10), for init = "pretrain". The paper gives none of these."""

    steps: Count = 2000
    batch: Count = 72
    learning_rate: Positive = 1e-3
    decoder_hidden: Count = 144
    """Width of h, which reconstructs the text embedding and is discarded."""


@dataclass(frozen=True)
class Recipe:
    """Every setting of a training run. `load_recipe` reads it."""

    generator: str
    """Folder of a diffusers pipeline, name of a generator that a plugin brings, or hub id."""
    prompts: PromptSettings
    scorers: Scorers
    decoder: str | None = None
    """Folder or hub id of an autoencoder that replaces the pipeline's own."""
    variant: str | None = None
    """Which weights to read if the generator has several, such as "fp16"."""
    steps: Annotated[int, Range(1, 4)] = 1
    """Sampling steps of the generator, L in eq. (1)."""
    prior: PriorSettings = PriorSettings()
    optimisation: Optimisation = Optimisation()
    pretraining: Pretraining = Pretraining()


def built_in() -> list[str]:
    """Sorted names of the recipes in the package and of those that plugins add."""
    return sorted({*_shipped(), *find_plugins(plugins.RECIPES)})


def load_recipe(name_or_path: str | Path, overrides: Sequence[str] = ()) -> Recipe:
    """Load the recipe of that name, or in that file, and apply `overrides`, "table.key=value", in order.

    The value of an override is TOML, or else a bare string; a table replaces the whole table.
    Raises RecipeError that names the key, and the file or the override.
    """
    path = _find(name_or_path)
    data: dict[str, Any] = _anchor(_read(path), path.parent)
    origins: dict[tuple[str, ...], str] = {}
    for override in overrides:
        key, value = _read_override(override)
        _lay_over(data, key, value, override)
        origins[key] = f"--set {override}"
    place = TomlPlace(str(path), origins)
    # A missing table counts as empty, so that the error names the key that it lacks.
    recipe: Recipe = read_value(Recipe, {"prompts": {}, "scorers": {}, **data}, place)
    _check_together(recipe, place)
    return recipe


def to_toml(recipe: Recipe) -> str:
    """The recipe as TOML, with all defaults filled in; `load_recipe` reads it back as the same recipe."""
    return emit(recipe)


def differing(one: Recipe, other: Recipe) -> list[str]:
    """Names of the settings in which two recipes differ, as for --set."""
    ours, theirs = dict(_each_setting(one)), dict(_each_setting(other))
    return [name for name in {**ours, **theirs} if ours.get(name) != theirs.get(name)]


def _each_setting(recipe: Recipe) -> Iterator[tuple[str, object]]:
    for name, value in asdict(recipe).items():
        if isinstance(value, Mapping):
            yield from ((f"{name}.{key}", part) for key, part in value.items())
        else:
            yield name, value


def _shipped() -> dict[str, Path]:
    return {path.stem: path for path in Path(__file__).with_name("recipes").glob("*.toml")}


def _find(name_or_path: str | Path) -> Path:
    name = str(name_or_path)
    if shipped := _shipped().get(name):
        return shipped
    if added := find_plugins(plugins.RECIPES).get(name):
        return Path(load_plugin(added))
    path = Path(name_or_path)
    if not path.is_file():
        fix = f"name one of {', '.join(built_in())}, or a .toml file, or install the package that brings it"
        raise RecipeError(f"there is no recipe {name!r}", fix=fix)
    return path


def _read(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:  # broken TOML, and bytes that are not UTF-8
        fix = "mend that line; strings need quotes, and a recipe that ships shows the form: pahi_rt/train/recipes/"
        raise RecipeError(f"{path} is not TOML: {error}", fix=fix) from error
    except OSError as error:
        raise RecipeError(f"{path} cannot be read: {error.strerror}", fix="check its permissions") from error


def _anchor(value: Any, folder: Path) -> Any:
    """`value` with every path that starts with ./ or ../, also after "kind:", made absolute from `folder`."""
    if isinstance(value, dict):
        return {_anchor(key, folder): _anchor(part, folder) for key, part in value.items()}
    if isinstance(value, list):
        return [_anchor(part, folder) for part in value]
    found = re.fullmatch(r"((?:[\w-]+:)?)(\.\.?/.*)", value) if isinstance(value, str) else None
    return found[1] + os.path.abspath(folder / found[2]) if found else value


def _read_override(override: str) -> tuple[tuple[str, ...], Any]:
    """Parse a.b=value: ("a", "b") and the value. Raises RecipeError for another form."""
    key, equals, value = override.partition("=")
    try:
        node: Any = tomllib.loads(f"{key}=0")
    except ValueError:
        node = {}
    path: list[str] = []
    while isinstance(node, dict) and len(node) == 1:
        ((name, node),) = node.items()
        path.append(name)
    if not equals or node != 0:
        fix = "write the table, the key and the value: --set optimisation.batch=36"
        raise RecipeError(f"--set {override} is not key=value", fix=fix)
    return tuple(path), _anchor(_read_bare(value), Path.cwd())


def _read_bare(value: str) -> Any:
    try:
        parsed = tomllib.loads(f"value={value}")
    except ValueError:
        return value.strip()
    return parsed["value"] if len(parsed) == 1 else value


def _lay_over(data: dict[str, Any], key: tuple[str, ...], value: Any, override: str) -> None:
    table: Any = data
    for name in key[:-1]:
        table = table.setdefault(name, {})
        if not isinstance(table, dict):
            fix = f"set {name} itself: --set {name}=VALUE"
            raise RecipeError(f"--set {override}: {name} is a setting, not a table", fix=fix)
    table[key[-1]] = value


def _check_together(recipe: Recipe, place: TomlPlace) -> None:
    """Raises RecipeError for settings that are valid alone, but not together."""
    optimisation, scorers = recipe.optimisation, recipe.scorers
    at = place.at("optimisation", "warmup_from")
    if optimisation.warmup_from > optimisation.learning_rate:
        problem = f"{at} is {optimisation.warmup_from}, above the learning rate of {optimisation.learning_rate}"
        raise at.error(problem, f"--set {at}={optimisation.learning_rate}")
    at = place.at("optimisation", "gradient")
    if optimisation.gradient in ("score-function", "mixed") and optimisation.noise != "fresh":
        clash = f"{at} is {optimisation.gradient}, which needs two independent noises, not {optimisation.noise} ones"
        raise at.error(clash, '--set optimisation.noise="fresh", or --set optimisation.gradient="clipped"')
    at = place.at("scorers", "train")
    if not any(scorers.train.values()):
        raise at.error(f"{at} names no scorer with a weight above 0", "give one: train = { pickscore = 1.0 }")
    at = place.at("scorers", "evaluation")
    if not scorers.evaluation or len(set(scorers.evaluation)) < len(scorers.evaluation):
        raise at.error(f"{at} names no scorer, or one twice", 'name each once: evaluation = ["pickscore"]')
