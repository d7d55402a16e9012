import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args, get_type_hints

import pytest

from pahi_rt.errors import PahiError
from pahi_rt.models.folders import find_model
from pahi_rt.models.priors import Init
from pahi_rt.train import recipe as recipes
from pahi_rt.train.gradients import GRADIENTS
from pahi_rt.train.preference import Noise
from pahi_rt.train.recipe import Recipe, Scorers, load_recipe, to_toml

SMALLEST = """
generator = "owner/name"
[prompts]
source = "words.txt"
[scorers]
train = { pickscore = 1.0 }
evaluation = ["pickscore"]
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "mine.toml"
    path.write_text(SMALLEST, encoding="utf-8")
    return path


def load(file: Path, *overrides: str) -> Recipe:
    return load_recipe(file, overrides)


def test_the_recipes_that_ship() -> None:
    assert recipes.built_in() == ["emoji", "lcm", "sd-turbo", "sdxl-turbo"]


@pytest.mark.parametrize("name", ["emoji", "lcm", "sd-turbo", "sdxl-turbo"])
def test_a_recipe_that_ships_survives_the_round_trip(name: str, tmp_path: Path) -> None:
    recipe = load_recipe(name)
    (tmp_path / "recipe.toml").write_text(to_toml(recipe), encoding="utf-8")
    assert load_recipe(tmp_path / "recipe.toml") == recipe


def test_sd_turbo_has_the_papers_values() -> None:
    recipe = load_recipe("sd-turbo")
    assert (recipe.generator, recipe.decoder, recipe.steps) == ("stabilityai/sd-turbo", "madebyollin/taesd", 1)
    assert (recipe.prompts.source, recipe.prompts.validation, recipe.prompts.test) == ("pick-a-pic", 500, 500)
    assert recipe.scorers == Scorers({"pickscore": 1.0}, ("pickscore", "imagereward"))
    optimisation = recipe.optimisation
    assert (optimisation.batch, optimisation.warmup_from, optimisation.warmup_steps) == (72, 1e-5, 10_000)
    assert (optimisation.evaluate_every, optimisation.patience) == (1000, 5)
    assert (optimisation.kl_weight, optimisation.noise, optimisation.scale) == (0, "fresh", None)
    assert optimisation.gradient == "pathwise"
    prior = recipe.prior
    assert (prior.init, prior.standardise, prior.sigma_bound, prior.low_frequency) == ("pretrain", False, None, None)
    parameters = 2 * (1024 * prior.hidden + prior.hidden + prior.hidden * 16384 + 16384)
    assert parameters == pytest.approx(5e6, rel=0.02)


def test_the_defaults_are_sd_turbos() -> None:
    """So that a recipe of one's own that leaves something out follows the paper."""
    recipe, defaults = load_recipe("sd-turbo"), Recipe("", recipes.PromptSettings(""), Scorers({}, ()))
    assert recipe.prior == defaults.prior
    assert recipe.pretraining == defaults.pretraining
    assert replace(recipe.optimisation, autocast="no") == defaults.optimisation


def test_the_emoji_recipe_finds_its_generator_from_anywhere(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    assert (find_model(load_recipe("emoji").generator) / "model_index.json").is_file()


def test_the_choices_are_those_of_the_modules_that_read_them() -> None:
    assert get_args(get_type_hints(recipes.PriorSettings)["init"]) == get_args(Init)
    assert get_args(get_type_hints(recipes.Optimisation)["noise"]) == get_args(Noise)
    assert get_args(get_type_hints(recipes.Optimisation)["gradient"]) == tuple(GRADIENTS)


def test_any_text_and_number_survives_the_round_trip(file: Path, tmp_path: Path) -> None:
    recipe = load(file)
    odd = replace(
        recipe,
        generator='C:\\models\\"mine"\n\t\x7f\x01 \u00e9 \U0001f600',
        decoder="none of them",
        scorers=Scorers({'pickscore:/a b/"c".d=e': 0.1 + 0.2, "emoji-a": 1e-12}, ("a", "b:#c")),
        optimisation=replace(recipe.optimisation, scale=1e22, learning_rate=5e-324 + 1, compile=True, seed=2**63 - 1),
        prior=replace(recipe.prior, sigma_bound=0.5, low_frequency=3),
    )
    (tmp_path / "odd.toml").write_text(to_toml(odd), encoding="utf-8")
    assert load_recipe(tmp_path / "odd.toml") == odd


def test_the_written_recipe_names_every_setting(file: Path) -> None:
    lines = to_toml(load(file)).splitlines()
    assert {'decoder = "none"', 'scale = "none"', "compile = false"} <= set(lines)
    table = lines[lines.index("[optimisation]") + 1 : lines.index("[pretraining]") - 1]
    assert {line.partition(" = ")[0] for line in table} == set(get_type_hints(recipes.Optimisation))


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("optimisation.batch=36", ("optimisation", "batch", 36)),
        ("optimisation.learning_rate = 1e-3", ("optimisation", "learning_rate", 1e-3)),
        ("optimisation.learning_rate=1", ("optimisation", "learning_rate", 1.0)),
        ("optimisation.compile=true", ("optimisation", "compile", True)),
        ("prior.init=zero", ("prior", "init", "zero")),
        ('prior.init="zero"', ("prior", "init", "zero")),
        ("prior.sigma_bound=0.5", ("prior", "sigma_bound", 0.5)),
        ("optimisation.scale=none", ("optimisation", "scale", None)),
        ("prompts.source=hub:owner/name", ("prompts", "source", "hub:owner/name")),
        ("prompts.source=2024.txt", ("prompts", "source", "2024.txt")),
        ("prompts.source=a=b.txt", ("prompts", "source", "a=b.txt")),
        ("scorers.evaluation=['a', 'b']", ("scorers", "evaluation", ("a", "b"))),
        ("scorers.train.emoji-a=2", ("scorers", "train", {"pickscore": 1.0, "emoji-a": 2.0})),
        ("scorers.train={emoji-a=2}", ("scorers", "train", {"emoji-a": 2.0})),
        ("scorers.train.'hpsv2:/a.b'=2", ("scorers", "train", {"pickscore": 1.0, "hpsv2:/a.b": 2.0})),
    ],
)
def test_an_override_changes_one_setting(override: str, expected: tuple[str, str, Any], file: Path) -> None:
    table, key, value = expected
    plain, changed = load(file), load(file, override)
    assert getattr(getattr(changed, table), key) == value
    assert type(getattr(getattr(changed, table), key)) is type(value)
    assert replace(changed, **{table: getattr(plain, table)}) == plain


def test_later_overrides_win(file: Path) -> None:
    assert load(file, "optimisation.batch=1", "optimisation.batch=2").optimisation.batch == 2


@pytest.mark.parametrize(
    ("lines", "overrides", "what", "fix"),
    [
        ("[optimisation]\nbatc = 4", [], r"mine\.toml: there is no setting optimisation\.batc$", "write batch"),
        ("[zzz]\nx = 1", [], r"mine\.toml: there is no setting zzz$", "one of generator, prompts"),
        (
            "[prompts]\n",
            ["prompts.sources=x"],
            r"^--set prompts\.sources=x: there is no setting prompts\.sources$",
            "write source",
        ),
        ("[optimisation]\nbatch = 'many'", [], r"optimisation\.batch is 'many', not a whole number", "a whole number"),
        ("[optimisation]\nbatch = 4.0", [], r"optimisation\.batch is 4\.0, not a whole number", "a whole number"),
        ("[optimisation]\nbatch = true", [], r"optimisation\.batch is True, not a whole number", "a whole number"),
        ("[optimisation]\nkl_weight = true", [], r"optimisation\.kl_weight is True, not a number", "a number"),
        ("[optimisation]\nkl_weight = nan", [], r"optimisation\.kl_weight is nan, not a number", "a number"),
        ("[optimisation]\nkl_weight = 1" + "0" * 400, [], r"not a number", "a number"),
        ("[optimisation]\ncompile = 1", [], r"optimisation\.compile is 1, not true or false", "true or false"),
        ("[optimisation]\nbatch = 0", [], r"optimisation\.batch is 0, which is out of range", "use 1 or more"),
        ("[optimisation]\nlearning_rate = 0", [], r"learning_rate is 0\.0, which is out of range", "more than 0"),
        ("[optimisation]\nnoise = 'frsh'", [], r"optimisation\.noise is 'frsh'", '"fresh", "shared", "antithetic"'),
        ("[optimisation]\ngradient = 'path'", [], r"optimisation\.gradient is 'path'", '"score-function", "mixed"'),
        (
            "[optimisation]\ngradient = 'mixed'\nnoise = 'shared'",
            [],
            r"optimisation\.gradient is mixed, which needs two independent noises, not shared ones",
            'optimisation.noise="fresh"',
        ),
        (
            "[optimisation]\nnoise = 'antithetic'",
            ["optimisation.gradient=score-function"],
            r"^--set optimisation\.gradient=score-function: .*not antithetic ones",
            'optimisation.gradient="clipped"',
        ),
        ("[optimisation]\nautocast = 16", [], r"optimisation\.autocast is 16", '"no", "bf16", "fp16"'),
        ("[prior]\nsigma_bound = 1.0", [], r"prior\.sigma_bound is 1\.0, which is out", "more than 0 and less than 1"),
        ("", ["steps=5"], r"^--set steps=5: steps is 5, which is out of range", "use 1 to 4"),
        ("", ["generator=7"], r"^--set generator=7: generator is 7, not text", "text"),
        ("", ["generator="], r"generator is '', not text", "text"),
        ("", ["prompts=7"], r"^--set prompts=7: prompts is 7, not a table", "a table"),
        ("", ["scorers.evaluation=pickscore"], r"scorers\.evaluation is 'pickscore', not a list", "a list"),
        ("", ["scorers.evaluation=[1]"], r"scorers\.evaluation\.0 is 1, not text", "text"),
        ("", ["scorers.evaluation=[]"], r"scorers\.evaluation names no scorer", 'evaluation = ["pickscore"]'),
        ("", ["scorers.evaluation=['a','a']"], r"scorers\.evaluation names no scorer, or one twice", "once"),
        ("", ["scorers.train={}"], r"scorers\.train names no scorer", "pickscore = 1.0"),
        ("", ["scorers.train.pickscore=0"], r"scorers\.train names no scorer with a weight above 0", "pickscore"),
        ("", ["scorers.train.'a b'=-1"], r'scorers\.train\."a b" is -1\.0, which is out of range', "0 or more"),
        ("", ["optimisation.warmup_from=1"], r"warmup_from is 1\.0, above the learning rate", "warmup_from=0.0001"),
        ("", ["generator.name=x"], r"^--set generator\.name=x: generator is a setting, not a table", "generator=VALUE"),
        ("", ["optimisation.batch"], r"^--set optimisation\.batch is not key=value", "optimisation.batch=36"),
        ("", ["optimisation.micro_batch=many"], r"micro_batch is 'many', not a whole number", 'number, or "auto"'),
        ("", ["optimisation.micro_batch=0"], r"micro_batch is 0, which is out of range", '1 or more, or "auto"'),
        ("", ["=3"], r"^--set =3 is not key=value", "optimisation.batch=36"),
        ("", ["a b=3"], r"^--set a b=3 is not key=value", "optimisation.batch=36"),
    ],
)
def test_a_wrong_setting_is_refused(lines: str, overrides: Sequence[str], what: str, fix: str, file: Path) -> None:
    text = SMALLEST.replace("[prompts]\n", lines) if lines == "[prompts]\n" else SMALLEST + lines
    file.write_text(text, encoding="utf-8")
    with pytest.raises(PahiError) as caught:
        load_recipe(file, overrides)
    assert re.search(what, caught.value.what), caught.value.what
    assert fix in caught.value.fix


@pytest.mark.parametrize(
    ("gone", "missing"),
    [
        ('generator = "owner/name"\n', "generator"),
        ('source = "words.txt"\n', "prompts.source"),
        ('[prompts]\nsource = "words.txt"\n', "prompts.source"),
        ('evaluation = ["pickscore"]\n', "scorers.evaluation"),
    ],
)
def test_a_missing_setting_is_named_and_the_fix_mends_it(gone: str, missing: str, file: Path) -> None:
    file.write_text(SMALLEST.replace(gone, ""), encoding="utf-8")
    with pytest.raises(PahiError, match=f"mine.toml: {missing} is missing") as caught:
        load(file)
    value = "['x']" if missing == "scorers.evaluation" else "x"
    load(file, caught.value.fix.partition("--set ")[2].replace("VALUE", value))


def test_an_unreadable_recipe_is_refused(tmp_path: Path) -> None:
    for content, what in ((b"generator = ", "is not TOML"), (b'generator = "\xff"', "is not TOML")):
        (tmp_path / "bad.toml").write_bytes(content)
        with pytest.raises(PahiError, match=what) as caught:
            load_recipe(tmp_path / "bad.toml")
        assert "bad.toml" in caught.value.what


def test_an_unknown_recipe_lists_the_known_ones(tmp_path: Path) -> None:
    for name in ("sdturbo", tmp_path, tmp_path / "none.toml"):
        with pytest.raises(PahiError, match="there is no recipe") as caught:
            load_recipe(name)
        assert "emoji, lcm, sd-turbo, sdxl-turbo" in caught.value.fix


def test_dotted_paths_begin_at_the_recipe_and_in_an_override_at_the_current_folder(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = SMALLEST.replace("owner/name", "./model").replace("words.txt", "plain.txt")
    file.write_text(text.replace("{ pickscore =", '{ "emoji-a:../a.safetensors" ='), encoding="utf-8")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    recipe = load(file, "scorers.evaluation=['emoji-b:./b']")
    assert recipe.generator == str(tmp_path / "model")
    assert recipe.prompts.source == "plain.txt"
    assert recipe.scorers.train == {f"emoji-a:{tmp_path.parent / 'a.safetensors'}": 1.0}
    assert recipe.scorers.evaluation == (f"emoji-b:{tmp_path / 'elsewhere' / 'b'}",)
