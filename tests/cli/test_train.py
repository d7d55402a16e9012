"""The verb on a real pipeline of random weights, and what it says."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from typer.testing import Result

from pahi_rt.cli.progress import TrainingProgress
from pahi_rt.models.random_models import save_random_pipeline
from pahi_rt.train.recipe import Optimisation
from pahi_rt.train.trainer import Step
from pahi_rt.train.validation import Evaluation, Verdict
from tests.cli.conftest import Run

ROOT = Path(__file__).parents[2]

RECIPE = """
generator = "./tiny"
[prompts]
source = "./prompts.txt"
validation = 2
test = 1
[scorers]
train = { redness = 1.0 }
evaluation = ["redness"]
[prior]
hidden = 4
init = "zero"
[optimisation]
batch = 2
micro_batch = 2
warmup_steps = 2
evaluate_every = 2
max_steps = 2
"""


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("files")
    save_random_pipeline(folder / "tiny")
    (folder / "prompts.txt").write_text("a cat\na dog\na hen\na fox\na pig\n")
    (folder / "recipe.toml").write_text(RECIPE)
    return folder


@pytest.fixture
def train(run: Run, files: Path) -> Iterator[Run]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)

    def invoke(*words: str) -> Result:
        return run("train", *words)

    yield invoke
    torch.set_num_threads(threads)


@pytest.fixture
def recipe(files: Path) -> str:
    return str(files / "recipe.toml")


def test_a_run_from_end_to_end(train: Run, recipe: str, here: Path) -> None:
    result = train("pahi", "--recipe", recipe, "--set", "optimisation.max_steps=3", "-o", "run")
    assert (result.exit_code, result.stdout) == (0, "run/prior.safetensors\n"), result.output
    said = result.stderr.splitlines()
    assert [line.split("  ")[0] for line in said[:5]] == [
        "load prompts",
        "load generator",
        "load scorer redness",
        "rehearse a step",
        "score the Gaussian",
    ]
    assert re.fullmatch(
        r"step 0  validation loss 0\.\d{4} \(best\), wins redness [\d.]+ % \(same noise 50\.0\), KL 0 nats"
        r"  run/samples/0{8}\.png",
        said[5],
    )
    assert said[6].startswith("step 1 of 3  loss ")
    assert said[-3:] == [
        "note: run/samples/00000003.png shows the prior beside the Gaussian",
        said[-2],
        "next: pahi-rt evaluate run",
    ]
    assert said[-2].startswith("note: ended after 3 steps (last step); the best prior is that of step ")
    assert (here / "run" / "samples" / "00000003.png").exists()


def test_a_run_that_gained_nothing_says_so(train: Run, recipe: str) -> None:
    still = ["--set", "optimisation.learning_rate=1e-30", "--set", "optimisation.warmup_from=0.0"]
    result = train("hi", "--recipe", recipe, *still, "-o", "run")
    assert result.exit_code == 0, result.output
    ended, doubt, fix, following = result.stderr.splitlines()[-4:]
    assert ended.endswith("the best prior is that of step 0")
    assert doubt.startswith("note: no step was better than step 0")
    assert fix.startswith("fix: train a new run with another optimisation.learning_rate")
    assert following == "next: pahi-rt evaluate run"
    (said,) = json.loads(train("hi", "--resume", "-o", "run", "--json").stdout)["doubts"]
    assert (f"note: {said['what']}", f"fix: {said['fix']}") == (doubt, fix)


def test_json_and_resuming_a_finished_run(train: Run, recipe: str) -> None:
    train("hi", "--recipe", recipe, "-o", "run")
    result = train("hi", "--resume", "-o", "run", "--json")
    document = json.loads(result.stdout)
    assert document.pop("best_validation_loss") > 0
    assert len(document.pop("doubts")) == (document.pop("best_step") == 0)
    assert document == {
        "run": "run",
        "kind": "hi",
        "prior": "run/prior.safetensors",
        "pictures": "run/samples/00000002.png",
        "reason": "last step",
        "steps": 2,
    }


def test_ctrl_c_names_the_command_that_goes_on(train: Run, recipe: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(TrainingProgress, "step", lambda *_: os.kill(os.getpid(), signal.SIGINT))
        result = train("hi", "--recipe", recipe, "--set", "optimisation.max_steps=9", "-o", "run")
    assert result.exit_code == 130
    assert "note: stopped after 2 steps\n" in result.stderr
    assert result.stderr.endswith("next: pahi-rt train hi --resume -o run\n")
    assert train("hi", "--resume", "-o", "run").exit_code == 0


def test_a_fix_can_be_typed_when_a_run_goes_on(train: Run, recipe: str, here: Path) -> None:
    train("hi", "--recipe", recipe, "-o", "run")
    result = train("hi", "--resume", "-o", "run", "--set", "optimisation.micro_batch=1")
    assert result.exit_code == 0, result.output
    assert "micro_batch = 1\n" in (here / "run" / "recipe.toml").read_text()
    result = train("hi", "--resume", "-o", "run", "--set", "optimisation.batch=1")
    assert result.stderr.startswith("error: the recipe is not the one that run began with: optimisation.batch differs")


@pytest.mark.slow
def test_a_kill_changes_nothing(recipe: str, here: Path) -> None:
    script = "from pahi_rt.cli import main; main()"
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    words = ["--recipe", recipe, "--set", "optimisation.max_steps=40", "--set", "optimisation.evaluate_every=4"]

    def start(*words: str) -> subprocess.Popen[bytes]:
        return subprocess.Popen([sys.executable, "-c", script, "train", "pahi", *words], env=environment)

    metrics = here / "killed" / "metrics.jsonl"
    with start(*words, "-o", "killed") as killed:
        while killed.poll() is None and not (metrics.exists() and '"step": 9' in metrics.read_text()):
            time.sleep(0.01)
        killed.kill()
    assert killed.returncode == -signal.SIGKILL
    for rest in (["--resume", "-o", "killed"], [*words, "-o", "whole"]):
        with start(*rest) as process:
            assert process.wait() == 0
    for name in ("prior.safetensors", "metrics.jsonl", "checkpoints/00000040.safetensors", "samples/00000040.png"):
        assert (here / "killed" / name).read_bytes() == (here / "whole" / name).read_bytes()


@pytest.mark.parametrize(
    ("words", "what"),
    [
        (["--recipe", "nothing"], "there is no recipe 'nothing'"),
        (["--set", "optimisation.batch=0"], "optimisation.batch is 0"),
        (["--set", "optimisation.bach=2"], "there is no setting optimisation.bach"),
        (["--set", "optimisation.autocast=fp16"], "fp16 needs a GPU"),
        (["--set", "prompts.source=missing.txt"], "missing.txt"),
        (["--set", "prompts.validation=9"], "9 validation"),
        (["--set", "generator=missing"], "missing"),
        (["--set", 'scorers.evaluation=["beauty"]'], "there is no scorer 'beauty'"),
        (["--set", "prior.low_frequency=99"], "low_frequency = 99"),
        (["--set", "steps=9"], "steps is 9"),
        (["--resume"], "there is no run in run"),
    ],
)
def test_what_is_wrong_is_said_before_anything_is_made(
    train: Run, recipe: str, words: list[str], what: str, here: Path
) -> None:
    given = words if "--recipe" in words else ["--recipe", recipe, *words]
    result = train("pahi", *given, "-o", "run")
    assert (result.exit_code, result.stdout) == (1, ""), result.output
    *_, error, fix = result.stderr.splitlines()
    assert error.startswith("error: ") and what in error
    assert fix.startswith("fix: ")
    assert not (here / "run").exists()


def test_a_run_is_not_overwritten(train: Run, recipe: str) -> None:
    train("hi", "--recipe", recipe, "-o", "run")
    result = train("hi", "--recipe", recipe, "-o", "run")
    assert result.exit_code == 1
    assert result.stderr.startswith("error: run already holds a run\nfix: add --resume")


def test_a_missing_package_names_the_extra(run: Run, without: Callable[[str], None]) -> None:
    without("accelerate")
    result = run("train", "pahi", "--recipe", "emoji", "-o", "run")
    assert (result.exit_code, result.stderr) == (
        1,
        "error: this needs the package accelerate, which is not installed\nfix: pip install 'pahi-rt[train]'\n",
    )


STEP = Step(loss=0.5, preference=0.5, kl_nats=1.0, win_rate_percent=70.0, gradient_norm=1.0, learning_rate=1e-3)
SETTINGS = Optimisation(batch=10, max_steps=100)
VERDICT = Verdict(
    loss=0.6,
    independent_win_rate_percent=56.25,
    same_noise_win_rate_percent=61.25,
    effect_size=0.1,
    mean_score=0.0,
    gaussian_mean_score=0.0,
)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [100.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    return now


def test_lines_away_from_a_terminal(clock: list[float], capsys: pytest.CaptureFixture[str]) -> None:
    with TrainingProgress() as watch:
        watch.begin("load generator")
        watch.end("load generator", 1.25)
        for number in range(1, 33):
            watch.step(number, SETTINGS, replace(STEP, loss=number / 10))
            clock[0] += 2.0
        watch.evaluation(32, Evaluation(0.612345, 12.0, {"a": VERDICT}), True, Path("run/samples/x.png"))
    assert capsys.readouterr().err.splitlines() == [
        "load generator  1.2 s",
        "step 1 of 100  loss 0.1000, wins 70 %",
        "note: about 3 min left at most, at 2 s a step, evaluations not counted; early stopping may end it before",
        "step 16 of 100  5 prompts/s, 3 min left at most, loss 0.8500, wins 70 %",
        "step 31 of 100  5 prompts/s, 2 min left at most, loss 1.6000, wins 70 %",
        "step 32  validation loss 0.6123 (best), wins a 56.2 % (same noise 61.2), KL 12 nats  run/samples/x.png",
    ]


def test_a_terminal_has_one_line_that_moves(
    clock: list[float], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    with TrainingProgress() as watch:
        watch.begin("load generator")
        watch.step(1, SETTINGS, STEP)
        clock[0] += 0.1
        watch.step(2, SETTINGS, STEP)  # too soon to be shown
        clock[0] += 0.2
        watch.step(3, SETTINGS, STEP)
        watch.evaluation(3, Evaluation(0.7, 0.0, {"a": VERDICT}), False, Path("x.png"))
    first, second, third, last = capsys.readouterr().err.split("\r\x1b[K")
    assert first == "load generator ..."
    assert second.startswith("step 1 of 100")
    assert third.startswith("step 3 of 100  66.7 prompts/s, 15 s left at most")
    assert last == "step 3  validation loss 0.7000, wins a 56.2 % (same noise 61.2), KL 0 nats  x.png\n"


def test_a_problem_is_not_written_behind_the_moving_line(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    with pytest.raises(ZeroDivisionError), TrainingProgress() as watch:
        watch.begin("load generator")
        raise ZeroDivisionError
    assert capsys.readouterr().err.endswith("\r\x1b[K")
