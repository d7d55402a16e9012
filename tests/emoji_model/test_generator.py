"""The stages that train the UNet: told what to draw, then from captions."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from emoji_model import drawing, generator, sketch, text, words
from emoji_model.sampler import Sampler
from emoji_model.trainer import Schedule, Worker, averaged
from emoji_model.unet import LATENT_SHAPE, load_unet

SCHEDULE = Schedule(steps=2, batch=8, learning_rate=1e-3, warmup=1, save_every=2, sample_every=2, bfloat16=True)


class Enlarger(nn.Module):
    """In the autoencoder's place: three channels of the latents, each value eight times as wide."""

    def decoder(self, latents: torch.Tensor) -> torch.Tensor:
        return latents[:, :3].repeat_interleave(8, 2).repeat_interleave(8, 3) / 100


def test_the_second_step_keeps_the_style_of_the_first() -> None:
    styles = torch.arange(3.0)[None, :, None, None, None].expand(2, 3, *LATENT_SHAPE)
    drawn = torch.stack([styles[0, 1] + 0.1, styles[1, 2] - 0.1])
    assert torch.equal(drawing.nearest_style(drawn, styles), torch.stack([styles[0, 1], styles[1, 2]]))


def test_the_stages_hand_on_what_they_learned(
    sampler: Sampler, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(words, "UNITS", 64)
    vae: Any = Enlarger()
    sketch.train(Worker(), tmp_path / "sketch", sampler, vae, SCHEDULE)
    words.train_memory(Worker(), tmp_path / "memory", sampler, SCHEDULE)
    words.train_words(Worker(), tmp_path / "words", sampler, SCHEDULE)
    generator.train(Worker(), tmp_path / "generator", sampler, vae, SCHEDULE)
    rows = {path.parent.name: json.loads(path.read_text()) for path in tmp_path.glob("*/metrics.jsonl")}
    assert "two" not in rows["sketch"] and rows["sketch"]["one"] > 0
    assert {"sketch", "start", "words", "end", "route"} < set(rows["words"])
    assert {"one", "two"} < set(rows["generator"])
    assert (tmp_path / "sketch" / "2.png").is_file() and (tmp_path / "generator" / "2.png").is_file()
    made = generator.load(tmp_path / "generator", sampler.tokenizer)
    encoder = text.load(tmp_path / "words", sampler.tokenizer)
    for name, value in encoder.state_dict().items():
        assert torch.equal(made["text_encoder"].state_dict()[name], value)
    # Two steps change a weight by at most twice the rate: each stage went on from what the one before left.
    near = 3 * SCHEDULE.learning_rate
    before = load_unet(tmp_path / "sketch").state_dict()
    assert all((value - before[name]).abs().max() < near for name, value in made["unet"].state_dict().items())
    held, later = (averaged(tmp_path / name, "memory") for name in ("memory", "words"))
    assert all((value - held[name]).abs().max() < near for name, value in later.items())
