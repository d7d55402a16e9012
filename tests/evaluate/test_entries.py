"""Runs and bundles as they enter an evaluation: their prompts, their scorers, and what is refused."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from pahi_rt.errors import BundleError, PahiError
from pahi_rt.evaluate.entries import OTHERS, TEST, enter, held_out_groups, name_runs, training_specs
from pahi_rt.evaluate.measurements import Settings
from pahi_rt.evaluate.table1 import evaluate, evaluate_targets
from pahi_rt.models.priors import HI, save_prior
from pahi_rt.models.random_models import save_random_pipeline
from pahi_rt.scorers.redness import Redness
from pahi_rt.train.prompts import Split, split_prompts
from pahi_rt.train.recipe import Recipe, load_recipe, to_toml
from pahi_rt.train.run import Run, create_run

PROMPTS = [f"a {colour} {thing}" for colour in ("red", "green", "blue") for thing in ("cat", "dog", "apple", "face")]
SMALL = Settings(seeds=2, diversity_seeds=2, diversity_prompts=2, batch=4)


@contextmanager
def untimed(_: str) -> Iterator[None]:
    yield


@pytest.fixture(scope="session")
def generator(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_random_pipeline(tmp_path_factory.mktemp("generator"))


@pytest.fixture
def recipe(generator: Path, tmp_path: Path) -> Recipe:
    (tmp_path / "prompts.txt").write_text("\n".join(PROMPTS))
    (tmp_path / "mine.toml").write_text(f"""
        generator = "{generator}"
        prompts = {{ source = "{tmp_path / "prompts.txt"}", validation = 2, test = 4 }}
        scorers = {{ train = {{ redness = 1.0 }}, evaluation = ["redness"] }}
    """)
    return load_recipe(tmp_path / "mine.toml")


@pytest.fixture
def run(recipe: Recipe, tmp_path: Path) -> Run:
    """A run with an HI that adds a tenth to every value of the noise."""
    split = split_prompts(PROMPTS, 2, 4)
    made = create_run(Run(tmp_path / "run", "hi", recipe, split.sha256))
    prior = HI((4, 8, 8))
    nn.init.constant_(prior.mu, 0.1)
    save_prior(prior, made.prior)
    return made


def test_a_run_brings_its_prior_prompts_and_scorers(run: Run) -> None:
    entry = enter([run.path], None, untimed)
    assert [row.name for row in entry.field.contenders[:2]] == ["Gaussian", "HI"]
    assert entry.groups == {TEST: list(split_prompts(PROMPTS, 2, 4).test)}
    assert (list(entry.scorers), entry.trained) == (["redness"], ["redness"])
    assert entry.meanings == {}
    assert (entry.generator, entry.priors) == (run.recipe.generator, {"HI": str(run.prior)})
    report = evaluate("run", entry.field, entry.groups, entry.scorers, trained=entry.trained, settings=SMALL)
    gaussian, learned = report.groups[0].rows[:2]
    assert learned.kl_nats == pytest.approx(256 * 0.01 / 2, rel=1e-3)
    assert learned.scores["redness"].mean_score != gaussian.scores["redness"].mean_score
    assert gaussian.sharpness_ratio is not None
    assert report.scorers["redness"].trained


def test_the_noise_of_a_row_is_what_its_sampler_says(run: Run) -> None:
    field = enter([run.path], None, untimed).field
    encoded, eps = field.encode(["a red cat"]), torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    drawn = {row.name: row.draw(encoded, eps) for row in field.contenders}
    plain = field.contenders[0].draw
    for name, noise in (("Gaussian", eps), ("eps x 0.8", 0.8 * eps), ("HI", eps + 0.1)):
        assert torch.allclose(drawn[name], plain(encoded, noise), atol=1e-6)
    assert len({tuple(drawn[name].flatten().tolist()) for name in ("Gaussian", "eps x 0.8", "HI")}) == 3


@pytest.mark.slow
def test_table_of_a_run(run: Run) -> None:
    told: list[str] = []

    def track(batches: Any, stage: str) -> Any:
        told.append(stage)
        return batches

    report = evaluate_targets([run.path], seeds=2, limit=1, track=track)
    assert told == ["scores", "diversity"]
    assert [group.prompts for group in report.groups] == [1]
    assert report == evaluate_targets([run.path], seeds=2, limit=1)


def test_a_run_that_was_not_evaluated_yet(run: Run) -> None:
    run.prior.unlink()
    with pytest.raises(PahiError, match="has no prior yet") as caught:
        enter([run.path], None, untimed)
    assert caught.value.fix == f"pahi-rt train hi --resume -o {run.path}"


def test_prompts_that_changed_since_the_training(run: Run) -> None:
    held_out = split_prompts(PROMPTS, 2, 4).test[0]
    Path(run.recipe.prompts.source).write_text("\n".join(prompt for prompt in PROMPTS if prompt != held_out))
    with pytest.raises(PahiError, match="are not those that .* held out"):
        enter([run.path], None, untimed)


def test_a_prior_of_another_size(run: Run) -> None:
    save_prior(HI((4, 8, 4)), run.prior)
    with pytest.raises(PahiError, match="noise of shape"):
        enter([run.path], None, untimed)


def test_a_run_has_a_recipe_of_its_own(run: Run) -> None:
    with pytest.raises(PahiError) as caught:
        enter([run.path], "emoji", untimed)
    assert caught.value.fix == "leave out --recipe, which is for bundles"


@pytest.fixture
def bundle(recipe: Recipe, tmp_path: Path, contract_with_priors: Path) -> tuple[Path, Path]:
    """The contract bundle with priors, and a recipe that draws in two steps."""
    path = tmp_path / "bundle.toml"
    path.write_text(to_toml(recipe).replace("steps = 1\n", "steps = 2\n", 1))
    return contract_with_priors, path


def test_a_bundle_is_evaluated_by_the_recipe_that_is_named(bundle: tuple[Path, Path]) -> None:
    folder, recipe = bundle
    entry = enter([str(folder)], str(recipe), untimed)
    assert [row.name for row in entry.field.contenders[:2]] == ["Gaussian", "PAHI"]
    assert [len(prompts) for prompts in entry.groups.values()] == [4]
    report = evaluate("bundle", entry.field, entry.groups, entry.scorers, settings=SMALL)
    assert json.loads(json.dumps(report.to_dict(), allow_nan=False))["groups"][0]["rows"][1]["kl_nats"] is None


def test_a_bundle_of_unknown_origin(bundle: tuple[Path, Path]) -> None:
    with pytest.raises(PahiError, match="no recipe 'contract-priors'") as caught:
        enter([str(bundle[0])], None, untimed)
    assert "--recipe emoji|" in caught.value.fix


def test_a_bundle_without_the_recipes_steps(bundle: tuple[Path, Path]) -> None:
    folder, recipe = bundle
    recipe.write_text(recipe.read_text().replace("steps = 2\n", "steps = 4\n", 1))
    with pytest.raises(PahiError, match="no graph of 4 steps"):
        enter([str(folder)], str(recipe), untimed)


def test_neither_a_run_nor_a_bundle(tmp_path: Path) -> None:
    with pytest.raises(PahiError) as caught:
        enter([tmp_path], None, untimed)
    assert caught.value.fix == "name a folder that `pahi-rt train` wrote"
    with pytest.raises(BundleError, match="there is no bundle"):
        enter(["no-such-thing"], None, untimed)


@pytest.mark.parametrize("wrong", [{"seeds": 1}, {"limit": 0}])
def test_numbers_out_of_range(tmp_path: Path, wrong: dict[str, Any]) -> None:
    with pytest.raises(PahiError, match="too few|cannot be evaluated"):
        evaluate_targets([tmp_path], **wrong)


def test_groups_of_the_test_part() -> None:
    everything = ("a", "b", "c")
    assert held_out_groups(Split((), (), everything)) == {TEST: ["a", "b", "c"]}
    marked = {"unseen": ("b",), "empty": ()}
    assert held_out_groups(Split((), (), everything, marked)) == {"unseen": ("b",), OTHERS: ["a", "c"]}
    whole = {"unseen": ("a", "b"), "new phrasings": ("c",)}
    assert held_out_groups(Split((), (), everything, whole)) == whole


def test_more_scorers_than_the_recipes(run: Run, bundle: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    for place in ("train.frozen", "evaluate.entries"):
        monkeypatch.setattr(f"pahi_rt.{place}.load_scorer", lambda spec: Redness())
    folder, recipe = bundle
    for target, name in ((run.path, None), (folder, str(recipe))):
        entry = enter([target], name, untimed, ["other", "redness"])
        assert (list(entry.scorers), entry.trained, entry.judge) == (["redness", "other"], ["redness"], "redness")
    report = evaluate_targets([run.path], seeds=2, limit=1, judge="third", scorers=["other"])
    assert (list(report.scorers), report.judge) == (["redness", "other", "third"], "third")
    assert not report.scorers["other"].trained


def test_only_scorers_with_a_weight_train(recipe: Recipe, tmp_path: Path) -> None:
    changed = load_recipe(tmp_path / "mine.toml", ["scorers.train={hpsv2=0.0, pickscore=1.0}"])
    assert training_specs(changed) == ["pickscore"]


def another(run: Run, name: str, kind: str = "hi", **changes: Any) -> Run:
    """A run beside `run`, with the same prior and split."""
    made = create_run(replace(run, path=run.path.with_name(name), kind=kind, recipe=replace(run.recipe, **changes)))
    shutil.copy(run.prior, made.prior)
    return made


def test_runs_share_a_table(run: Run) -> None:
    kinds = enter([run.path, another(run, "other", "pahi").path], None, untimed)
    assert [row.name for row in kinds.field.contenders[:3]] == ["Gaussian", "HI", "PAHI"]
    optimisation = replace(run.recipe.optimisation, seed=1)
    seeds = enter([run.path, another(run, "again", optimisation=optimisation).path], None, untimed)
    assert [row.name for row in seeds.field.contenders[:3]] == ["Gaussian", "run", "again"]


def test_the_scorers_that_trained_either_run_are_marked(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pahi_rt.train.frozen.load_scorer", lambda spec: Redness())
    scorers = replace(run.recipe.scorers, train={"third": 1.0})
    entry = enter([run.path, another(run, "other", scorers=scorers).path], None, untimed)
    assert (entry.trained, list(entry.scorers)) == (["redness", "third"], ["redness", "third"])


def test_runs_that_do_not_fit_into_one_table(run: Run, bundle: tuple[Path, Path]) -> None:
    with pytest.raises(PahiError, match="do not fit into one table: steps differs"):
        enter([run.path, another(run, "slow", steps=2).path], None, untimed)
    with pytest.raises(PahiError) as caught:
        enter([run.path, run.path], None, untimed)
    with pytest.raises(PahiError) as caught:
        enter([run.path, bundle[0]], None, untimed)
    assert caught.value.fix == "evaluate it alone, or name runs only"


def test_rows_are_named_by_kind_or_by_what_was_named(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "hi-0.02").symlink_to(run.path)
    linked, here = replace(run, path=tmp_path / "hi-0.02"), replace(run, path=Path())
    monkeypatch.chdir(run.path)
    assert name_runs([run]) == ["HI"]
    assert name_runs([here, linked]) == ["run", "hi-0.02"]
    with pytest.raises(PahiError, match="the same name"):
        name_runs([run, here])
