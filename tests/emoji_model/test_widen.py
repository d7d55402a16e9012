"""The widening: composed scenes come with the noise that asks for them, and words keep what the UNet knows."""

import json
import random
from pathlib import Path

import pytest
import torch

from emoji_model import coupling, generator, text, tokenizer, widen
from emoji_model.captions import Captions
from emoji_model.encoded import OPEN, EncodedScenes
from emoji_model.sources import Concept
from emoji_model.trainer import Schedule, Worker


@pytest.fixture
def encoded() -> EncodedScenes:
    """Ten scenes; each latent is filled with its scene's number times ten, and its style's."""
    numbers = 10.0 * torch.arange(10)[:, None] + torch.arange(3)
    values = torch.zeros(10, coupling.COUNT)
    values[:, coupling.TINT] = torch.randn(10, coupling.COUNT, generator=torch.Generator().manual_seed(5))[:, 3:5]
    return EncodedScenes(
        torch.randint(1, 300, (10, tokenizer.POSITIONS), generator=torch.Generator().manual_seed(6)).short(),
        numbers[:, :, None, None, None].expand(10, 3, *generator.LATENT_SHAPE).half(),
        values,
        torch.arange(10) % 2 == 0,
        torch.tensor([OPEN, OPEN, 0, 1, 2] * 2).char(),
        torch.tensor([1, 2, 1, 3, 1] * 2).char(),
    )


def test_noise_asks_for_the_tint_and_the_style_of_its_scene(encoded: EncodedScenes) -> None:
    batch = widen.draw_composed(encoded, 200, torch.Generator().manual_seed(0))
    read, numbers = coupling.read(batch.noise), batch.latents[:, 0, 0, 0].long()
    scenes, styles = numbers // 10, numbers % 10
    assert torch.equal(batch.input_ids, encoded.input_ids[scenes].long())
    named, open_ground = encoded.style[scenes].long(), ~encoded.grounded[scenes]
    assert torch.equal(styles, torch.where(named == OPEN, coupling.style_of(read), named))
    wanted = encoded.values[scenes][:, coupling.TINT]
    assert torch.allclose(read[open_ground][:, coupling.TINT], wanted[open_ground], atol=1e-4)
    # A named background leaves the tint's values to the noise.
    free = read[~open_ground][:, coupling.TINT]
    assert free.std() == pytest.approx(1.0, abs=0.15)


def test_batches_follow_each_other(encoded: EncodedScenes) -> None:
    first, second = (widen.draw_composed(encoded, 3, torch.Generator().manual_seed(seed)) for seed in (1, 2))
    both = widen.join(first, second)
    assert torch.equal(both.noise, torch.cat([first.noise, second.noise]))
    assert len(both.styles) == 6


def test_sketches_are_fitted_to_what_the_encoder_holds(concepts: list[Concept], tmp_path: Path) -> None:
    captions = Captions(concepts)
    words = tokenizer.train(captions.words() * 5, tmp_path / "tokenizer")
    torch.manual_seed(0)
    encoder, latents = text.build(words).eval(), torch.randn(len(concepts), 3, 4, 16, 16)
    sketch = widen.fit_sketch(encoder, captions, latents, words)
    with torch.no_grad():
        drawn = sketch(encoder(text.tokens(words, ["cat face", "fire"])).last_hidden_state)
    wanted = text.cells(latents)[[0, 2]]
    assert (drawn - wanted).square().mean() < 0.5 * wanted.square().mean()


def test_words_learn_composed_captions_and_keep_known_ones(
    concepts: list[Concept], encoded: EncodedScenes, tmp_path: Path
) -> None:
    captions = Captions(concepts)
    words = tokenizer.train(captions.words() * 5, tmp_path / "tokenizer")
    small = EncodedScenes(**{**vars(encoded), "latents": encoded.latents / 50})
    torch.manual_seed(0)
    encoder, latents = text.build(words), torch.randn(len(concepts), 3, 4, 16, 16)
    before = encoder(text.tokens(words, ["cat face"])).last_hidden_state.detach()
    schedule = Schedule(steps=40, batch=16, learning_rate=1e-3, warmup=5, save_every=40, sample_every=10**9)
    widen.train_words(Worker(), tmp_path / "words", latents, small, captions, words, encoder, schedule)
    rows = [line for line in (tmp_path / "words" / "metrics.jsonl").read_text().splitlines() if line]
    assert len(rows) == 1
    after = text.load(tmp_path / "words", words)
    change = after(text.tokens(words, ["cat face"])).last_hidden_state - before
    assert 0 < change.square().mean() < 0.5 * before.square().mean()


def test_a_batch_without_known_captions_is_learned_too(
    concepts: list[Concept], encoded: EncodedScenes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    captions = Captions(concepts)
    words = tokenizer.train(captions.words() * 5, tmp_path / "tokenizer")
    monkeypatch.setattr(widen, "FIRST", 2)
    new = captions.draw(3, None, random.Random(0))
    assert max(new.meanings) >= 2
    monkeypatch.setattr(widen, "_draw_captions", lambda captions, count, rng: [new] * count)
    schedule = Schedule(steps=50, batch=8, learning_rate=1e-3, warmup=5, save_every=50, sample_every=10**9)
    latents = torch.randn(len(concepts), 3, 4, 16, 16)
    widen.train_words(Worker(), tmp_path / "words", latents, encoded, captions, words, text.build(words), schedule)
    (row,) = map(json.loads, (tmp_path / "words" / "metrics.jsonl").read_text().splitlines())
    assert row["change"] == 0 and row["sketch"] > 0
