"""Whole runs on a toy: what they leave, that a kill changes nothing, and what is found out before they begin."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from pahi_rt.errors import OutputError, PahiError
from pahi_rt.files import write_whole
from pahi_rt.models.priors import PAHI, load_prior
from pahi_rt.train import initialisation, interruption, loop, run
from pahi_rt.train.checkpoint import METADATA
from pahi_rt.train.frozen import Models
from pahi_rt.train.loop import Outcome
from pahi_rt.train.metrics_log import read_metrics
from pahi_rt.train.recipe import Optimisation, Recipe, load_recipe
from pahi_rt.train.run import open_run
from pahi_rt.train.trainer import Step
from pahi_rt.train.training import train
from pahi_rt.train.validation import Evaluation
from pahi_rt.train.watch import Silent

MakeRecipe = Callable[..., Recipe]


class Killed(BaseException):
    """Nothing catches it, as nothing catches a kill."""


class KillAt(Silent):
    """Ends the run at a step, or at the evaluation after it."""

    def __init__(self, step: int, evaluation: bool = False, end: Callable[[], None] | None = None) -> None:
        self.at, self.in_evaluation = step, evaluation
        self.end_run = end

    def _end(self) -> None:
        if self.end_run is None:
            raise Killed
        self.end_run()

    def step(self, number: int, settings: Optimisation, step: Step) -> None:
        if number == self.at and not self.in_evaluation:
            self._end()

    def evaluation(self, number: int, evaluation: Evaluation, best: bool, pictures: Path) -> None:
        if number == self.at and self.in_evaluation:
            self._end()


def interrupt() -> None:
    os.kill(os.getpid(), signal.SIGINT)


def contents(path: Path) -> dict[str, bytes]:
    """Everything in a run folder but TensorBoard's events, which hold times, and the list of starts."""
    files = (file for file in path.rglob("*") if file.is_file())
    left_out = ("tensorboard", "environment.jsonl")
    return {
        str(f.relative_to(path)): f.read_bytes() for f in files if not str(f.relative_to(path)).startswith(left_out)
    }


@pytest.fixture
def usual_ctrl_c() -> Iterator[None]:
    """What Python does with Ctrl-C, also where the shell that started the tests in its background ignores it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture
def frequent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loop, "SAVE_EVERY", 3)


@pytest.mark.parametrize("kind", ["hi", "pahi"])
def test_what_a_run_leaves(kind: str, recipe: MakeRecipe, tmp_path: Path) -> None:
    outcome = train(kind, tmp_path / "run", recipe())
    run = open_run(tmp_path / "run")
    assert (outcome.reason, outcome.state.step, outcome.is_main) == ("last step", 10, True)
    assert (run.kind, run.recipe, outcome.run) == (kind, recipe(), run)
    assert sorted(run.split) == ["test", "train", "validation"]
    assert [path.name for path in run.checkpoints()] == ["00000008.safetensors", "00000010.safetensors"]
    assert load_prior(run.prior).kind == kind
    assert list(run.tensorboard.iterdir())
    assert not list(run.path.rglob(".pahi-rt-*"))
    (start,) = (run.path / "environment.jsonl").read_text().splitlines()
    assert json.loads(start)["torch"] == torch.__version__
    rows = read_metrics(run.metrics)
    assert [row["step"] for row in rows if "training" in row] == list(range(1, 11))
    assert [row["step"] for row in rows if "validation" in row] == [0, 4, 8, 10]


def test_the_best_prior_is_the_one_that_is_kept(recipe: MakeRecipe, tmp_path: Path) -> None:
    outcome = train("hi", tmp_path / "run", recipe())
    rows = {row["step"]: row["validation"]["loss"] for row in read_metrics(outcome.run.metrics) if "validation" in row}
    best = min(rows, key=lambda step: rows[step])
    assert (outcome.state.best_step, outcome.state.best_loss) == (best, rows[best])


def test_training_raises_the_score_it_trains(recipe: MakeRecipe, tmp_path: Path) -> None:
    train("pahi", tmp_path / "run", recipe(learning_rate=0.05, max_steps=40, evaluation=("redness",), standardise=True))
    first, *_, last = (
        row["validation"] for row in read_metrics(tmp_path / "run" / "metrics.jsonl") if "validation" in row
    )
    assert first["scorers"]["redness"]["same_noise_win_rate_percent"] == 50
    assert last["scorers"]["redness"]["same_noise_win_rate_percent"] == 100
    assert last["loss"] < 0.7 * first["loss"]
    assert first["kl_nats"] == 0 < last["kl_nats"]


CUTS = [
    ("pahi", "pretrain", KillAt(2)),  # after the first evaluation
    ("pahi", "pretrain", KillAt(3)),  # a step that would have been saved
    ("pahi", "pretrain", KillAt(4, evaluation=True)),  # its row and its pictures are written, its checkpoint is not
    ("pahi", "zero", KillAt(5)),
    ("hi", "zero", KillAt(10)),
]


@pytest.mark.parametrize(("kind", "init", "cut"), CUTS)
def test_a_killed_run_ends_like_one_that_was_not(
    kind: str, init: str, cut: KillAt, recipe: MakeRecipe, frequent: None, tmp_path: Path
) -> None:
    made = recipe(init=init)
    train(kind, tmp_path / "whole", made)
    with pytest.raises(Killed):
        train(kind, tmp_path / "killed", made, watch=cut)
    assert contents(tmp_path / "killed") != contents(tmp_path / "whole")
    train(kind, tmp_path / "killed", resume=True)
    assert contents(tmp_path / "killed") == contents(tmp_path / "whole")


@pytest.mark.parametrize("gradient", ["clipped", "score-function", "mixed"])
def test_running_numbers_survive_a_kill(gradient: str, recipe: MakeRecipe, frequent: None, tmp_path: Path) -> None:
    made = recipe(gradient=gradient)
    train("hi", tmp_path / "whole", made)
    with pytest.raises(Killed):
        train("hi", tmp_path / "killed", made, watch=KillAt(7))
    train("hi", tmp_path / "killed", resume=True)
    assert contents(tmp_path / "killed") == contents(tmp_path / "whole")


def test_an_evaluation_that_was_due_at_an_interruption_is_logged_once(recipe: MakeRecipe, tmp_path: Path) -> None:
    train("pahi", tmp_path / "whole", recipe())
    interrupted = train("pahi", tmp_path / "run", recipe(), watch=KillAt(7, end=interrupt))
    assert (interrupted.state.step, interrupted.state.evaluated) == (8, 4)
    with pytest.raises(Killed):
        train("pahi", tmp_path / "run", resume=True, watch=KillAt(8, evaluation=True))
    train("pahi", tmp_path / "run", resume=True)
    assert contents(tmp_path / "run") == contents(tmp_path / "whole")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("evaluation", [False, True])
def test_ctrl_c_ends_after_the_step_and_can_be_resumed(
    number: signal.Signals, evaluation: bool, recipe: MakeRecipe, tmp_path: Path
) -> None:
    usual = signal.getsignal(number)
    train("pahi", tmp_path / "whole", recipe())
    cut = KillAt(8 if evaluation else 6, evaluation, lambda: os.kill(os.getpid(), number))
    outcome = train("pahi", tmp_path / "run", recipe(), watch=cut)
    assert (outcome.reason, outcome.state.step) == ("interrupted", 9 if evaluation else 7)
    assert outcome.run.checkpoints()[-1].stem == f"{outcome.state.step:08d}"
    assert signal.getsignal(number) is usual
    assert train("pahi", tmp_path / "run", recipe(), resume=True).reason == "last step"
    # An interruption adds a checkpoint of its own, so the last but one may be another.
    ours, whole = contents(tmp_path / "run"), contents(tmp_path / "whole")
    assert {name: ours.get(name) for name in whole if "00000008.safe" not in name} == {
        name: content for name, content in whole.items() if "00000008.safe" not in name
    }


@pytest.mark.usefixtures("usual_ctrl_c")
def test_a_later_ctrl_c_does_not_wait(recipe: MakeRecipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def twice() -> None:
        interrupt()
        interrupt()

    assert train("hi", tmp_path / "one-press", recipe(), watch=KillAt(6, end=twice)).reason == "interrupted"
    monkeypatch.setattr(interruption, "ONE_PRESS", -1.0)
    with pytest.raises(KeyboardInterrupt):
        train("hi", tmp_path / "run", recipe(), watch=KillAt(6, end=twice))
    assert train("hi", tmp_path / "run", resume=True).reason == "last step"


def test_a_finished_run_stays_finished(recipe: MakeRecipe, tmp_path: Path) -> None:
    train("hi", tmp_path / "run", recipe())
    before = contents(tmp_path / "run")
    assert train("hi", tmp_path / "run", resume=True).reason == "last step"
    assert contents(tmp_path / "run") == before


def test_it_stops_when_the_loss_no_longer_drops(recipe: MakeRecipe, tmp_path: Path) -> None:
    """With no learning at all, no evaluation is below the first."""
    made = recipe(learning_rate=1e-30, warmup_from=0.0, patience=3, evaluate_every=2, max_steps=100)
    outcome = train("hi", tmp_path / "run", made)
    assert (outcome.reason, outcome.state.step, outcome.state.best_step) == ("early stopping", 6, 0)
    untrained, *more = outcome.doubts
    assert "nothing was gained" in untrained.what and "learning_rate" in untrained.fix
    assert not more  # the warm-up was over after 4 steps


def test_a_run_that_is_stopped_within_its_warm_up_says_so(recipe: MakeRecipe, tmp_path: Path) -> None:
    settings = {"learning_rate": 1e-30, "warmup_from": 0.0, "patience": 3, "evaluate_every": 2, "max_steps": 100}
    outcome = train("hi", tmp_path / "run", recipe(**settings, warmup_steps=13))
    early, untrained = outcome.doubts
    assert early.what.startswith("early stopping ended the training within its warm-up, after 6 of 13 steps")
    assert "4.6e-31 of 1e-30" in early.what
    # 7 evaluations until the warm-up is over, and then the 3 that were asked for.
    assert "--set optimisation.patience=10," in early.fix
    assert "nothing was gained" in untrained.what
    mended = train("hi", tmp_path / "mended", recipe(**settings | {"patience": 10}, warmup_steps=13))
    assert mended.state.step == 20
    assert [doubt.what for doubt in mended.doubts] == [untrained.what]


def test_nothing_speaks_against_a_run_that_gained_or_goes_on(recipe: MakeRecipe, tmp_path: Path) -> None:
    gained = train("hi", tmp_path / "gained", recipe(learning_rate=0.1, evaluation=("redness",)))
    assert gained.state.best_step > 0
    assert gained.doubts == ()
    cut = train("hi", tmp_path / "cut", recipe(), watch=KillAt(1, end=interrupt))
    assert (cut.reason, cut.state.best_step, cut.doubts) == ("interrupted", 0, ())


def test_what_helps_one_scorer_and_hurts_the_other_more_is_no_progress(recipe: MakeRecipe, tmp_path: Path) -> None:
    """Redder pictures are less green. Early stopping looks at both."""
    settings = {"learning_rate": 0.1, "evaluate_every": 5, "max_steps": 30, "patience": 2}
    alone = train("hi", tmp_path / "alone", recipe(**settings, evaluation=("redness",)))
    both = train("hi", tmp_path / "both", recipe(**settings))
    assert (alone.reason, both.reason) == ("last step", "early stopping")


def test_pictures_have_the_gaussian_on_the_left_and_the_prior_on_the_right(recipe: MakeRecipe, tmp_path: Path) -> None:
    outcome = train("hi", tmp_path / "run", recipe(learning_rate=0.3, max_steps=8))
    first, last = (Image.open(outcome.run.samples(step)) for step in (0, 8))
    assert first.size == (2 * 8 + 4, 5 * 8 + 4 * 4)
    assert json.loads(first.text["prompts"])[0].startswith("a ")  # type: ignore[attr-defined]
    left, right = (0, 0, 8, first.height), (12, 0, 20, first.height)
    assert first.crop(left).tobytes() == first.crop(right).tobytes() == last.crop(left).tobytes()
    assert last.crop(left).tobytes() != last.crop(right).tobytes()
    assert redness(last.crop(right)) > redness(last.crop(left))
    assert outcome.run.pictures == outcome.run.samples(8)


def redness(picture: Image.Image) -> float:
    red, green, blue = torch.tensor(list(picture.get_flattened_data())).float().mean(0).tolist()
    return red - (green + blue) / 2


def test_pretraining_is_reported_in_nats(recipe: MakeRecipe, tmp_path: Path) -> None:
    train("pahi", tmp_path / "run", recipe(init="pretrain", max_steps=1))
    first = read_metrics(tmp_path / "run" / "metrics.jsonl")[0]
    assert {"train_kl_nats", "held_out_kl_nats"} <= first["pretraining"].keys()


def test_the_seed_decides(recipe: MakeRecipe, tmp_path: Path) -> None:
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        train("pahi", tmp_path / name, recipe(seed=seed, max_steps=2))
    a, b, c = (contents(tmp_path / name)["metrics.jsonl"] for name in "abc")
    assert a == b != c


def test_nobodys_random_state_is_touched(recipe: MakeRecipe, tmp_path: Path) -> None:
    state = torch.get_rng_state()
    train("pahi", tmp_path / "run", recipe(init="pretrain", max_steps=1))
    assert torch.equal(torch.get_rng_state(), state)


def finished(path: Path, recipe: Recipe, kind: str = "hi") -> Outcome:
    return train(kind, path, replace(recipe, optimisation=replace(recipe.optimisation, max_steps=1)))


def test_a_new_run_does_not_overwrite(recipe: MakeRecipe, tmp_path: Path) -> None:
    finished(tmp_path / "run", recipe())
    with pytest.raises(PahiError, match="already holds a run.*--resume"):
        train("hi", tmp_path / "run", recipe())
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "thesis.txt").touch()
    for path in (tmp_path / "other", tmp_path / "other" / "thesis.txt"):
        with pytest.raises(PahiError, match="is not a run"):
            train("hi", path, recipe())
    with pytest.raises(OutputError, match="no folder can be made"):
        train("hi", tmp_path / "other" / "thesis.txt" / "run", recipe())


def test_an_empty_folder_will_do(recipe: MakeRecipe, tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    finished(tmp_path / "run", recipe())


@pytest.mark.parametrize("written", [0, 1])
def test_a_run_that_was_killed_as_it_began_can_begin_again(
    written: int, recipe: MakeRecipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Path] = []

    def write_or_die(path: Path, content: str) -> None:
        if len(seen) == written:
            raise Killed
        write_whole(path, content)
        seen.append(path)

    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(run, "write_whole", write_or_die)
        train("hi", tmp_path / "run", recipe())
    what, fix = ("was cut off before it began", "without --resume") if written else ("there is no run", "name a folder")
    with pytest.raises(PahiError, match=f"{what}.*{fix}"):
        train("hi", tmp_path / "run", resume=True)
    assert finished(tmp_path / "run", recipe()).reason == "last step"


@pytest.mark.parametrize("content", ["{}", "my notes", '{"kind": "hi"}'])
def test_a_file_of_the_users_is_no_run_that_was_killed(content: str, recipe: MakeRecipe, tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "run.json").write_text(content)
    with pytest.raises(PahiError):
        train("hi", tmp_path / "run", recipe())
    assert (tmp_path / "run" / "run.json").read_text() == content


def test_nothing_to_resume(recipe: MakeRecipe, tmp_path: Path) -> None:
    with pytest.raises(PahiError, match="there is no run in"):
        train("hi", tmp_path / "run", resume=True)
    with pytest.raises(PahiError, match="needs a recipe"):
        train("hi", tmp_path / "run")
    with pytest.raises(PahiError, match="there is no prior 'gan'"):
        train("gan", tmp_path / "run", recipe())
    assert not (tmp_path / "run").exists()


def test_resuming_as_something_else(recipe: MakeRecipe, tmp_path: Path) -> None:
    finished(tmp_path / "run", recipe())
    with pytest.raises(PahiError, match="trains hi, not pahi"):
        train("pahi", tmp_path / "run", resume=True)
    with pytest.raises(PahiError, match="began with: optimisation.max_steps, optimisation.kl_weight differs"):
        train("hi", tmp_path / "run", recipe(kl_weight=0.5), resume=True)


def test_resuming_on_a_smaller_machine(recipe: MakeRecipe, tmp_path: Path) -> None:
    train("hi", tmp_path / "whole", recipe())
    train("hi", tmp_path / "run", recipe(), watch=KillAt(5, end=interrupt))
    train("hi", tmp_path / "run", recipe(micro_batch=1), resume=True)
    whole, ours = (read_metrics(tmp_path / name / "metrics.jsonl")[-1]["validation"] for name in ("whole", "run"))
    assert ours["loss"] == pytest.approx(whole["loss"], rel=1e-5)


def test_what_a_resumed_run_changes_it_keeps(recipe: MakeRecipe, tmp_path: Path) -> None:
    train("hi", tmp_path / "run", recipe(), watch=KillAt(3, end=interrupt))
    changed = open_run(tmp_path / "run", ["optimisation.micro_batch=1"]).recipe
    train("hi", tmp_path / "run", changed, resume=True, watch=KillAt(6, end=interrupt))
    assert train("hi", tmp_path / "run", resume=True).run.recipe == recipe(micro_batch=1)
    assert open_run(tmp_path / "run").recipe == recipe(micro_batch=1)
    starts = [json.loads(line) for line in (tmp_path / "run" / "environment.jsonl").read_text().splitlines()]
    assert [(start["micro_batch"], start["autocast"]) for start in starts] == [(3, "no"), (1, "no"), (1, "no")]


def test_how_many_prompts_at_once_is_settled_when_a_run_begins(recipe: MakeRecipe, tmp_path: Path) -> None:
    made = recipe(micro_batch="auto", batch=3)
    train("hi", tmp_path / "run", made, watch=KillAt(5, end=interrupt))
    assert open_run(tmp_path / "run").recipe == recipe(micro_batch=4, batch=3)
    train("hi", tmp_path / "run", made, resume=True)
    train("hi", tmp_path / "whole", made)
    ours, whole = contents(tmp_path / "run"), contents(tmp_path / "whole")
    assert ours["prior.safetensors"] == whole["prior.safetensors"]
    assert ours["metrics.jsonl"] == whole["metrics.jsonl"]


@pytest.mark.parametrize("has_bfloat16", [False, True])
def test_the_precision_is_settled_when_a_run_begins(
    has_bfloat16: bool, recipe: MakeRecipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pahi_rt.train.frozen.has_bfloat16", lambda: has_bfloat16)
    train("hi", tmp_path / "run", recipe(autocast="auto"), watch=KillAt(5, end=interrupt))
    settled = recipe(autocast="bf16" if has_bfloat16 else "no")
    assert open_run(tmp_path / "run").recipe == settled
    # Another machine does not change it.
    monkeypatch.setattr("pahi_rt.train.frozen.has_bfloat16", lambda: not has_bfloat16)
    train("hi", tmp_path / "run", recipe(autocast="auto"), resume=True)
    train("hi", tmp_path / "whole", settled)
    ours, whole = contents(tmp_path / "run"), contents(tmp_path / "whole")
    assert ours["prior.safetensors"] == whole["prior.safetensors"]


def test_other_prompts_than_before(recipe: MakeRecipe, tmp_path: Path) -> None:
    finished(tmp_path / "run", recipe())
    with (tmp_path / "prompts.txt").open("a") as file:
        file.write("\na zebra")
    with pytest.raises(PahiError, match="are not those that .* began with"):
        train("hi", tmp_path / "run", resume=True)


def test_another_generator_than_before(recipe: MakeRecipe, toy_models: Models, tmp_path: Path) -> None:
    finished(tmp_path / "run", recipe())
    toy_models.generator.get_parameter("tint").data += 0.05
    with pytest.raises(PahiError, match="redness gives the Gaussian's pictures .* when this run began"):
        train("hi", tmp_path / "run", resume=True)
    toy_models.generator.latent_shape = (3, 6, 6)  # type: ignore[misc]
    with pytest.raises(PahiError, match="does not fit the prior"):
        train("hi", tmp_path / "run", resume=True)


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-10])


def spoil(path: Path) -> None:
    # The last bytes are tensors: all bits set is NaN.
    path.write_bytes(path.read_bytes()[:-8] + b"\xff" * 8)


@pytest.mark.parametrize("damage", [truncate, spoil, lambda path: path.write_text("{}")])
def test_a_corrupt_checkpoint_has_one_before_it(
    damage: Callable[[Path], Any], recipe: MakeRecipe, tmp_path: Path
) -> None:
    run = train("pahi", tmp_path / "run", recipe()).run
    whole = contents(run.path)
    newest = run.checkpoints()[-1]
    damage(newest)
    with pytest.raises(PahiError, match=f"{newest} is corrupt.*rm {newest}"):
        train("pahi", run.path, resume=True)
    newest.unlink()
    train("pahi", run.path, resume=True)
    assert contents(run.path) == whole


def rewrite(path: Path, counters: Callable[[dict[str, Any]], Any], names: Callable[[str], str] = str) -> None:
    """The checkpoint with other counters, and tensors of other names."""
    with safe_open(path, "pt") as file:
        facts = json.loads(file.metadata()[METADATA])
        tensors = {names(name): file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    counters(facts)
    save_file(tensors, path, metadata={METADATA: json.dumps(facts)})


@pytest.mark.parametrize(
    ("counters", "names"),
    [
        (lambda facts: facts.pop("scaler"), str),
        (lambda facts: facts.update(scaler=3), str),
        (lambda facts: facts["state"]["gaussian_scores"].pop("redness"), str),
        (lambda facts: facts["state"]["running"].update(median=1.0), str),
        (lambda facts: facts, lambda name: name.replace("optimizer.0", "optimizer.first")),
        (lambda facts: facts, lambda name: name.replace("optimizer.0", "optimizer.99")),
    ],
)
def test_a_checkpoint_that_lacks_something(
    counters: Callable[[dict[str, Any]], Any], names: Callable[[str], str], recipe: MakeRecipe, tmp_path: Path
) -> None:
    newest = finished(tmp_path / "run", recipe()).run.checkpoints()[-1]
    rewrite(newest, counters, names)
    with pytest.raises(PahiError, match=f"{newest} is corrupt.*rm {newest}"):
        train("hi", tmp_path / "run", resume=True)


@pytest.mark.parametrize(
    ("change", "what", "init"),
    [
        (lambda pooled: pooled[:1].expand_as(pooled) * 0 + 1, "the same embedding", "zero"),
        (lambda pooled: pooled * torch.nan, "NaN or infinity for a prompt", "pretrain"),
    ],
)
def test_useless_embeddings_are_found_before_the_folder_is_made(
    change: Callable[[Tensor], Tensor],
    what: str,
    init: str,
    recipe: MakeRecipe,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(initialisation, "encode_pooled", lambda models, prompts: change(torch.ones(len(prompts), 6)))
    with pytest.raises(PahiError, match=what):
        train("pahi", tmp_path / "run", recipe(init=init, standardise=True))
    assert not (tmp_path / "run").exists()


def test_damaged_facts(recipe: MakeRecipe, tmp_path: Path) -> None:
    run = finished(tmp_path / "run", recipe()).run
    (run.path / "run.json").write_text("{")
    with pytest.raises(PahiError, match="run.json cannot be read"):
        train("hi", run.path, resume=True)


def test_two_trainings_in_one_folder(recipe: MakeRecipe, tmp_path: Path) -> None:
    def again() -> None:
        train("hi", tmp_path / "run", resume=True)

    with pytest.raises(PahiError, match="another process is training in"):
        train("hi", tmp_path / "run", recipe(), watch=KillAt(2, end=again))


def break_scorer(
    models: Models, name: str, monkeypatch: pytest.MonkeyPatch, change: Callable[[Tensor], Tensor]
) -> None:
    score = models.scorers[name].score
    monkeypatch.setattr(models.scorers[name], "score", lambda images, prompts: change(score(images, prompts)))


@pytest.mark.parametrize(
    ("scorer", "change", "what"),
    [
        ("redness", lambda scores: scores * torch.nan, "the scorer redness gives NaN"),
        ("greenness", lambda scores: scores / 0, "the scorer greenness gives NaN or infinity"),
        ("redness", lambda scores: scores[:, None], "scores of shape"),
        ("redness", lambda scores: scores.detach(), "do not depend on the pictures"),
    ],
)
def test_useless_scores_are_found_before_the_first_step(
    scorer: str,
    change: Callable[[Tensor], Tensor],
    what: str,
    recipe: MakeRecipe,
    toy_models: Models,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    break_scorer(toy_models, scorer, monkeypatch, change)
    with pytest.raises(PahiError, match=what):
        train("pahi", tmp_path / "run", recipe())
    assert not (tmp_path / "run").exists()


def test_scores_that_become_nan_keep_the_last_checkpoint(
    recipe: MakeRecipe, toy_models: Models, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train("pahi", tmp_path / "whole", recipe())
    with monkeypatch.context() as patch:
        broken = KillAt(6, end=lambda: break_scorer(toy_models, "redness", patch, lambda scores: scores * torch.nan))
        with pytest.raises(PahiError, match="the scorer redness gives NaN"):
            train("pahi", tmp_path / "run", recipe(), watch=broken)
    assert [path.stem for path in open_run(tmp_path / "run").checkpoints()] == ["00000000", "00000004"]
    train("pahi", tmp_path / "run", resume=True)
    assert contents(tmp_path / "run") == contents(tmp_path / "whole")


def test_settings_of_the_prior_arrive(recipe: MakeRecipe, tmp_path: Path) -> None:
    train("pahi", tmp_path / "run", recipe(max_steps=1, sigma_bound=0.5, low_frequency=2, standardise=True))
    prior = load_prior(tmp_path / "run" / "prior.safetensors")
    assert isinstance(prior, PAHI)
    assert prior.config["sigma_bound"] == 0.5
    assert prior.config["low_frequency"] == 2
    assert prior.feature_mean.any()


def test_the_recorded_recipe_repeats_the_run(recipe: MakeRecipe, tmp_path: Path) -> None:
    train("hi", tmp_path / "a", recipe())
    train("hi", tmp_path / "b", load_recipe(tmp_path / "a" / "recipe.toml"))
    assert contents(tmp_path / "a") == contents(tmp_path / "b")
