"""Several processes: in threads for the sums, and through `accelerate launch` for the rest."""

from __future__ import annotations

import copy
import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

import pytest
import torch
from torch import Tensor

from pahi_rt.errors import PahiError
from pahi_rt.models.random_models import save_random_pipeline
from pahi_rt.train.frozen import Models
from pahi_rt.train.initialisation import build_prior
from pahi_rt.train.metrics_log import read_metrics
from pahi_rt.train.preference import Preference
from pahi_rt.train.processes import Processes, join_processes
from pahi_rt.train.recipe import Recipe
from pahi_rt.train.trainer import Step, Trainer
from pahi_rt.train.validation import Evaluation, Validation

ROOT = Path(__file__).parents[2]
T = TypeVar("T")
PROMPTS = tuple(f"prompt {number}" for number in range(7))


class Threads:
    """What `world` threads need to sum tensors as processes do."""

    def __init__(self, world: int) -> None:
        self.barrier = threading.Barrier(world, timeout=60)
        self.parts: list[Tensor | None] = [None] * world


class ThreadProcess(Processes):
    """A thread that takes itself for a process."""

    threads: Threads

    def sum(self, tensor: Tensor) -> Tensor:
        self.threads.parts[self.rank] = tensor.clone()
        self.threads.barrier.wait()
        total = torch.stack([part for part in self.threads.parts if part is not None]).sum(0)
        self.threads.barrier.wait()
        return total


def in_threads(world: int, work: Callable[[Processes], T]) -> list[T]:
    threads = Threads(world)

    def run(rank: int) -> T:
        process = ThreadProcess(rank=rank, world=world)
        object.__setattr__(process, "threads", threads)
        return work(process)

    with ThreadPoolExecutor(world) as pool:
        return list(pool.map(run, range(world)))


def test_alone_on_this_machine() -> None:
    processes = join_processes()
    assert (processes.rank, processes.world, processes.is_main) == (0, 1, True)
    assert torch.equal(processes.sum(torch.ones(2)), torch.ones(2))


@pytest.mark.parametrize("world", [1, 2, 3, 5])
@pytest.mark.parametrize("count", [5, 6, 72])
def test_every_sample_is_one_processs(world: int, count: int) -> None:
    shares = [list(Processes(rank=rank, world=world).share(count)) for rank in range(world)]
    assert sum(shares, []) == list(range(count))
    assert max(map(len, shares)) - min(map(len, shares)) <= 1
    assert min(map(len, shares)) >= 1


@pytest.mark.parametrize(("world", "gradient"), [(2, "pathwise"), (3, "pathwise"), (4, "pathwise"), (3, "mixed")])
def test_several_processes_take_the_steps_of_one(
    world: int, gradient: str, recipe: Callable[..., Recipe], toy_models: Models
) -> None:
    made = recipe(batch=6, micro_batch=2, standardise=False, gradient=gradient)
    # Built once: threads share PyTorch's random state, which the first weights come from, and processes do not.
    first = build_prior("pahi", made, toy_models.generator)

    def run(processes: Processes) -> tuple[list[Step], Tensor, Evaluation]:
        prior = copy.deepcopy(first)
        trainer = Trainer(prior, toy_models, PROMPTS, Preference({"redness": 1.0}), made.optimisation, processes)
        steps = [trainer.take_step()[0] for _ in range(5)]
        validation = Validation(toy_models, PROMPTS, ("redness", "greenness"), 0, 2, processes)
        return steps, prior.mu[-1].weight.detach(), validation.evaluate(prior)  # type: ignore[union-attr, index]

    steps, weight, evaluation = run(Processes())
    for theirs, their_weight, their_evaluation in in_threads(world, run):
        assert [step.loss for step in theirs] == pytest.approx([step.loss for step in steps], rel=1e-5)
        assert torch.allclose(their_weight, weight, atol=1e-5)
        assert their_evaluation.loss == pytest.approx(evaluation.loss, rel=1e-5)
        assert their_evaluation.kl_nats == pytest.approx(evaluation.kl_nats, rel=1e-4)


def test_all_stop_when_one_is_asked_to(recipe: Callable[..., Recipe], toy_models: Models) -> None:
    made = recipe()

    def run(processes: Processes) -> bool:
        prior = build_prior("hi", made, toy_models.generator)
        trainer = Trainer(prior, toy_models, PROMPTS, Preference({"redness": 1.0}), made.optimisation, processes)
        return trainer.take_step(stop=processes.rank == 1)[1]

    assert in_threads(3, run) == [True, True, True]


def test_a_problem_of_one_is_a_problem_of_all(
    recipe: Callable[..., Recipe], toy_models: Models, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody is left waiting for a process that has given up."""
    made = recipe()
    score = toy_models.scorers["redness"].score

    def scores(images: Tensor, prompts: tuple[str, ...]) -> Tensor:
        return score(images, prompts) * (torch.nan if threading.current_thread() is broken[0] else 1)

    broken: list[threading.Thread | None] = [None]
    monkeypatch.setattr(toy_models.scorers["redness"], "score", scores)

    def run(processes: Processes) -> str:
        if processes.rank == 1:
            broken[0] = threading.current_thread()
        prior = build_prior("hi", made, toy_models.generator)
        trainer = Trainer(prior, toy_models, PROMPTS, Preference({"redness": 1.0}), made.optimisation, processes)
        with pytest.raises(PahiError) as caught:
            trainer.take_step()
        return caught.value.what

    theirs, its = in_threads(2, run)
    assert str(theirs).startswith("the loss of step 0 is NaN or infinite, here or in another process")
    assert str(its).startswith("the scorer redness gives NaN")


def test_more_processes_than_samples(recipe: Callable[..., Recipe], toy_models: Models) -> None:
    made = recipe(batch=2, micro_batch=1)
    prior = build_prior("hi", made, toy_models.generator)
    with pytest.raises(PahiError, match="a batch of 2 cannot be shared by 3 processes"):
        Trainer(prior, toy_models, PROMPTS, Preference({"redness": 1.0}), made.optimisation, Processes(world=3))


RECIPE = """
generator = "./tiny"
[prompts]
source = "./prompts.txt"
validation = 3
test = 1
[scorers]
train = { redness = 1.0 }
evaluation = ["redness"]
[prior]
hidden = 4
init = "pretrain"
[optimisation]
batch = 4
micro_batch = 2
learning_rate = 1e-2
warmup_steps = 2
evaluate_every = 2
max_steps = 4
[pretraining]
steps = 2
batch = 2
"""


@pytest.mark.slow
def test_two_processes_of_accelerate_have_the_curve_of_one(tmp_path: Path) -> None:
    save_random_pipeline(tmp_path / "tiny")
    (tmp_path / "prompts.txt").write_text("a cat\na dog\na hen\na fox\na pig\na cow\nan owl\n")
    (tmp_path / "recipe.toml").write_text(RECIPE)
    (tmp_path / "pahi-rt").write_text("from pahi_rt.cli import main\nmain()\n")
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "true"}
    # With --cpu Accelerate starts several processes through MPI only; this is torchrun.
    several = ["--multi_gpu", "--num_processes", "2", "--num_machines", "1"]
    launch = [sys.executable, "-m", "accelerate.commands.launch", *several]
    for name, program in (("one", [sys.executable]), ("two", launch)):
        words = ["pahi-rt", "train", "pahi", "--recipe", "recipe.toml", "-o", name]
        done = subprocess.run([*program, *words], cwd=tmp_path, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        assert done.stdout.splitlines() == [f"{name}/prior.safetensors"]
        assert done.stderr.count("step 4  validation loss") == 1
        (start,) = (tmp_path / name / "environment.jsonl").read_text().splitlines()
        assert json.loads(start)["processes"] == {"one": 1, "two": 2}[name]
    one, two = (read_metrics(tmp_path / name / "metrics.jsonl") for name in ("one", "two"))
    assert len(one) == len(two) == 8
    for ours, theirs in zip(one, two, strict=True):
        group = next(key for key in ours if key != "step")
        if group != "pretraining":
            assert theirs[group]["loss"] == pytest.approx(ours[group]["loss"], rel=1e-4)
