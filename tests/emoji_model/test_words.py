"""The text encoder remembers drawings, learns which of them a caption asks for, and keeps what it knew."""

import json
import random
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from transformers import CLIPTextModel, CLIPTokenizer

from emoji_model import text
from emoji_model import words as stage
from emoji_model.captions import Captions
from emoji_model.codes import Codes
from emoji_model.encoded import EncodedScenes
from emoji_model.trainer import Schedule, Worker

SCHEDULE = Schedule(steps=40, batch=8, learning_rate=2e-3, warmup=5, save_every=40, sample_every=10**9)


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """MLPs of 64 units."""
    monkeypatch.setattr(stage, "WIDTH", 64)


@pytest.fixture
def latents(captions: Captions) -> torch.Tensor:
    return torch.randn(len(captions.concepts), 3, 4, 16, 16, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def before(words: CLIPTokenizer) -> CLIPTextModel:
    torch.manual_seed(0)
    return text.build(words).eval()


def last(folder: Path) -> dict[str, float]:
    """The last row of a training's metrics."""
    return json.loads((folder / "metrics.jsonl").read_text().splitlines()[-1])


def test_sketches_are_fitted_to_what_the_encoder_holds(
    captions: Captions, latents: torch.Tensor, encoded: EncodedScenes, before: CLIPTextModel, words: CLIPTokenizer
) -> None:
    sketch = stage.fit_sketch(before, stage.Lessons(latents, encoded, captions, words))
    with torch.no_grad():
        drawn = sketch(before(text.tokens(words, ["cat face", "fire"])).last_hidden_state)
    wanted = text.cells(latents)[[0, 2]]
    assert (drawn - wanted).square().mean() < 0.5 * wanted.square().mean()


def test_the_memory_lies_in_the_last_layers(captions: Captions, words: CLIPTokenizer, encoded: EncodedScenes) -> None:
    torch.manual_seed(0)
    encoder, memory = stage.build_encoder(words, Codes(captions))
    encoder.eval()
    codes = encoded.codes.long()
    with torch.no_grad():
        hidden = memory.embed(codes)
        for layer in encoder.encoder.layers[-stage.REMEMBERING :]:
            hidden = layer(hidden, None)
        assert torch.allclose(memory(codes), encoder.final_layer_norm(hidden), atol=1e-5)


def test_captions_are_learned_in_two_stages_and_known_ones_keep_their_embeddings(
    captions: Captions, latents: torch.Tensor, encoded: EncodedScenes, before: CLIPTextModel, words: CLIPTokenizer,
    tmp_path: Path,
) -> None:  # fmt: skip
    lessons = stage.Lessons(latents, replace(encoded, latents=encoded.latents / 50), captions, words)
    stage.train_memory(Worker(), tmp_path / "memory", lessons, before, SCHEDULE)
    stage.train_words(Worker(), tmp_path / "words", lessons, before, replace(SCHEDULE, steps=160))
    first, second = last(tmp_path / "memory"), last(tmp_path / "words")
    assert set(first) == {"step", "sketch", "change", "samples_per_s"}
    assert second["route"] < 0.5 * stage.ROUTE
    ids = text.tokens(words, ["cat face"])
    after = text.load(tmp_path / "words", words)
    assert len(after.encoder.layers) == stage.LAYERS
    known = before(ids).last_hidden_state
    change = after(ids).last_hidden_state - known
    assert 0 < change.square().mean() < 0.5 * known.square().mean()


def test_a_batch_without_known_captions_is_learned_too(
    captions: Captions, latents: torch.Tensor, encoded: EncodedScenes, before: CLIPTextModel, words: CLIPTokenizer,
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr(stage, "FIRST", 2)
    new = captions.draw(3, None, random.Random(0))
    assert max(new.meanings) >= 2
    monkeypatch.setattr(stage, "_draw_captions", lambda captions, count, rng: [(new, None)] * count)
    stage.train_memory(
        Worker(), tmp_path / "memory", stage.Lessons(latents, encoded, captions, words), before, SCHEDULE
    )
    row = last(tmp_path / "memory")
    assert row["change"] == 0 and row["sketch"] > 0
