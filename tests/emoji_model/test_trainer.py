"""A run that was stopped and resumed ends with the weights of one that was not."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from emoji_model.trainer import Schedule, Trainer, Worker, averaged, restore, spawn, steps_done
from pahi_rt.errors import PahiError

SCHEDULE = Schedule(steps=40, batch=8, learning_rate=1e-2, warmup=4, save_every=20, sample_every=40)


def fit(worker: Worker, folder: Path, stop: int, schedule: Schedule) -> None:
    """A line through noisy points; stops early to play a run that was killed."""
    model = nn.ModuleDict({"line": nn.Sequential(nn.Dropout(0.02), nn.Linear(3, 1))}).train()
    trainer = Trainer(folder, model, schedule, worker)

    def loss(step: int, generator: torch.Generator) -> dict[str, torch.Tensor]:
        if step == stop:
            raise KeyboardInterrupt
        points = torch.randn(schedule.batch // worker.world, 3, generator=generator)
        return {"error": (model["line"](points) - points.sum(1, keepdim=True)).square().mean()}

    trainer.run(loss, lambda step: None)


def weights(folder: Path) -> dict[str, torch.Tensor]:
    state = torch.load(folder / "checkpoint.pt", weights_only=True)
    return {f"{part}.{name}": value for part in ("modules", "ema") for name, value in state[part].items()}


def test_resumed_run_is_bit_equal(tmp_path: Path) -> None:
    torch.manual_seed(0)
    fit(Worker(), tmp_path / "whole", -1, SCHEDULE)
    torch.manual_seed(0)
    with pytest.raises(KeyboardInterrupt):
        fit(Worker(), tmp_path / "halves", 31, SCHEDULE)
    torch.manual_seed(99)  # the resumed run may not depend on the initial weights it draws
    fit(Worker(), tmp_path / "halves", -1, SCHEDULE)
    whole, halves = weights(tmp_path / "whole"), weights(tmp_path / "halves")
    assert all(torch.equal(whole[name], halves[name]) for name in whole)
    rows = (tmp_path / "halves" / "metrics.jsonl").read_text().splitlines()
    assert len(rows) == 1


@pytest.mark.parametrize("has_checkpoint", [False, True])
def test_rows_of_steps_that_are_taken_again_are_dropped(tmp_path: Path, has_checkpoint: bool) -> None:
    schedule = replace(SCHEDULE, steps=100, save_every=50 if has_checkpoint else 1000)
    with pytest.raises(KeyboardInterrupt):
        fit(Worker(), tmp_path, 70, schedule)
    log = tmp_path / "metrics.jsonl"
    log.write_text(log.read_text() + '{"step": 60}\n{"step": 1')  # what a kill cut off
    fit(Worker(), tmp_path, -1, schedule)
    assert [json.loads(row)["step"] for row in log.read_text().splitlines()] == [50, 100]


def test_two_workers_agree_and_learn(tmp_path: Path) -> None:
    spawn(fit, 2, 0, tmp_path, -1, replace(SCHEDULE, steps=200, save_every=200))
    line = weights(tmp_path)["modules.line.1.weight"]
    assert torch.allclose(line, torch.ones(1, 3), atol=0.2)


@pytest.mark.parametrize(("bfloat16", "has_it"), [(False, True), (True, True), (True, False)])
def test_products_are_as_precise_as_the_schedule_says(
    tmp_path: Path, bfloat16: bool, has_it: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("emoji_model.trainer.has_bfloat16", lambda: has_it)
    model, seen = nn.ModuleDict({"line": nn.Linear(3, 1)}), set()
    trainer = Trainer(tmp_path, model, replace(SCHEDULE, steps=2, bfloat16=bfloat16), Worker())

    def loss(step: int, generator: torch.Generator) -> dict[str, torch.Tensor]:
        drawn = model["line"](torch.ones(1, 3))
        seen.add(drawn.dtype)
        return {"error": drawn.float().square().mean()}

    trainer.run(loss, lambda step: None)
    assert seen == {torch.bfloat16 if bfloat16 and has_it else torch.float32}


def test_rate_rises_then_falls_to_zero() -> None:
    rates = [SCHEDULE.rate(step) for step in range(41)]
    assert rates[0] < rates[3] == SCHEDULE.learning_rate == rates[20]
    assert rates[-1] == 0


def test_a_stage_that_has_not_run_is_named(tmp_path: Path) -> None:
    with pytest.raises(PahiError) as caught:
        averaged(tmp_path / "autoencoder", "vae")
    assert caught.value.fix == "python -m emoji_model autoencoder"


def test_restored_weights_train_on(tmp_path: Path) -> None:
    line = nn.Linear(3, 1)
    model = nn.ModuleDict({"line": nn.Sequential(nn.Dropout(0.02), line)})
    assert steps_done(tmp_path) == 0
    restore(model, 20, tmp_path)
    assert steps_done(tmp_path) == 20
    assert torch.equal(averaged(tmp_path, "line")["1.weight"], line.weight)
    fit(Worker(), tmp_path, -1, SCHEDULE)
    assert steps_done(tmp_path) == SCHEDULE.steps
    assert not torch.equal(averaged(tmp_path, "line")["1.weight"], line.weight)
