"""The text encoder remembers drawings, then learns which of them a caption asks for."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from emoji_model import sketch, text
from emoji_model import words as stage
from emoji_model.sampler import Sampler
from emoji_model.trainer import Schedule, Worker, restore

SCHEDULE = Schedule(steps=60, batch=8, learning_rate=2e-3, warmup=5, save_every=60, sample_every=10**9)


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """MLPs of 64 units."""
    monkeypatch.setattr(stage, "UNITS", 64)


@pytest.fixture
def sampler(sampler: Sampler) -> Sampler:
    """With random pictures: of those that are filled with a number, cells hold the same after their layer norm."""
    rng = torch.Generator().manual_seed(0)
    targets, encoded = sampler.targets, sampler.encoded
    return Sampler(
        replace(targets, plain=torch.randn(targets.plain.shape, generator=rng).half()),
        replace(encoded, plain=torch.randn(encoded.plain.shape, generator=rng).half()),
        sampler.captions,
        sampler.tokenizer,
    )


def test_errors_are_those_of_cells_start_words_and_end(sampler: Sampler) -> None:
    sketcher, end = sketch.Sketcher(), sampler.tokenizer.eos_token_id
    batch = sampler.draw(8, torch.Generator().manual_seed(0))
    long = batch.input_ids.clone()
    long[0, long[0] == end] = 5
    long[0, -text.CELLS] = end  # its end is a cell's token, which holds the cell
    batch = replace(batch, input_ids=long)
    with torch.no_grad():
        right = sketch.embed(sketcher, batch.content, long.shape[1], torch.Generator().manual_seed(0))
        mean = sketcher(batch.content)[..., : -text.MARKS].mean(1)
        rows, places = (long[1:] == end).nonzero().unbind(1)
        right[rows + 1, places, : -text.MARKS] = torch.nn.functional.layer_norm(mean[1:], mean.shape[1:])
        assert sum(stage.errors(right, sketcher, batch, end).values()) < 1e-9
        for name, wrong in (("start", 0), ("words", 1), ("sketch", -1)):
            changed = right.clone()
            changed[:, wrong, -1] += 1
            off = {key for key, value in stage.errors(changed, sketcher, batch, end).items() if value > 1e-4}
            assert off == {name}


def rows(folder: Path) -> list[dict[str, float]]:
    """A training's metrics."""
    return [json.loads(row) for row in (folder / "metrics.jsonl").read_text().splitlines()]


def test_the_memory_lies_in_the_last_layers(sampler: Sampler) -> None:
    torch.manual_seed(0)
    encoder, memory = stage.build_encoder(sampler.tokenizer, len(sampler.captions.concepts))
    encoder.eval()
    codes = sampler.encoded.codes.long()
    with torch.no_grad():
        hidden = memory.embed(codes)
        for layer in encoder.encoder.layers[-stage.REMEMBERING :]:
            hidden = layer(hidden, None)
        assert torch.allclose(memory(codes), encoder.final_layer_norm(hidden), atol=1e-5)


def test_captions_are_learned_in_two_stages(sampler: Sampler, tmp_path: Path) -> None:
    torch.manual_seed(0)
    restore(torch.nn.ModuleDict({"sketcher": sketch.Sketcher()}), 1, tmp_path / "sketch")
    stage.train_memory(Worker(), tmp_path / "memory", sampler, replace(SCHEDULE, steps=300))
    stage.train_words(Worker(), tmp_path / "words", sampler, replace(SCHEDULE, steps=240))
    remembered, (early, *_, late) = rows(tmp_path / "memory")[-1], rows(tmp_path / "words")
    assert set(remembered) == {"step", "sketch", "samples_per_s"}
    assert remembered["sketch"] < 0.6  # of a variance of 1
    assert late["route"] < 0.6 * stage.ROUTE
    assert late["sketch"] < 0.7 * early["sketch"]
    assert late["start"] < 0.1 * stage.FRAME
    made = text.load(tmp_path / "words", sampler.tokenizer)
    assert len(made.encoder.layers) == stage.LAYERS
