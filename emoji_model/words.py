"""Stages `memory` and `words`: the text encoder learns to write the sketch of what a caption asks for (sketch.py).

Trained as a whole, the encoder learned things at half size far more slowly than whole ones: to know which part of which
thing each cell shows, it has to understand the caption, and until then it cannot remember drawings. So the two are
learned apart. `memory` trains the last layers on codes (codes.py) that say what each cell shows. `words` puts new
layers before them, which learn to turn captions into these codes, and trains all of them.
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import nn
from torch.nn import functional as F
from transformers import CLIPTextModel, CLIPTokenizer

from emoji_model import sketch
from emoji_model.codes import sizes
from emoji_model.sampler import Batch, Sampler
from emoji_model.text import CELLS, MARKS, WIDTH, build
from emoji_model.trainer import Schedule, Trainer, Worker, averaged

MEMORY = Schedule(steps=6000, batch=128, learning_rate=1.5e-3, warmup=100, decay=0.4, sample_every=10**9, bfloat16=True)
WORDS = Schedule(steps=6000, batch=128, learning_rate=1e-3, warmup=100, decay=0.4, sample_every=10**9, bfloat16=True)
UNITS, LAYERS, REMEMBERING = 1536, 5, 2
"""Units of the MLPs, layers of the encoder, and how many of them, the last ones, hold the drawings."""
ROUTE, FRAME = 0.5, 0.2
"""Weights of the error of the codes, as a share of their size, and of the tokens that hold no cells."""


class Memory(nn.Module):
    """The last layers of `encoder` without their attention: codes int64 [B, CELLS, 5] -> sketch [B, CELLS, WIDTH]."""

    def __init__(self, encoder: CLIPTextModel, sizes: tuple[int, ...]) -> None:
        super().__init__()
        self._rows = [size + 1 for size in sizes]  # the last row is for NONE
        self.tables = nn.ModuleList([nn.Embedding(rows, WIDTH) for rows in self._rows])
        self.places = nn.Parameter(torch.empty(CELLS, WIDTH))
        for weight in (self.places, *self.tables.parameters()):
            nn.init.normal_(weight, 0.0, 0.02)  # as CLIP's own embeddings
        last = encoder.encoder.layers[-REMEMBERING:]
        self.layers = nn.ModuleList([nn.Sequential(layer.layer_norm2, layer.mlp) for layer in last])
        self.norm = encoder.final_layer_norm

    def embed(self, codes: torch.Tensor) -> torch.Tensor:
        """Codes and the numbers of the cells as vectors [B, CELLS, WIDTH]: the input of the layers."""
        parts = zip(self.tables, codes.unbind(-1), self._rows, strict=True)
        return torch.stack([table(numbers % rows) for table, numbers, rows in parts]).sum(0) + self.places

    def forward(self, codes: torch.Tensor) -> torch.Tensor:
        hidden = self.embed(codes)
        for layer in self.layers:
            hidden = hidden + layer(hidden)
        return self.norm(hidden)


@torch.no_grad()
def build_encoder(tokenizer: CLIPTokenizer, concepts: int) -> tuple[CLIPTextModel, Memory]:
    """A new encoder, and the memory in its last layers, whose attention does nothing yet."""
    encoder = build(tokenizer, UNITS, LAYERS)
    for layer in encoder.encoder.layers[-REMEMBERING:]:
        layer.self_attn.out_proj.weight.zero_()
    return encoder, Memory(encoder, sizes(concepts))


def train_memory(worker: Worker, folder: Path, sampler: Sampler, schedule: Schedule) -> None:
    """Train the memory on sketches of the sketcher that `sketch` left beside `folder`.

    Leaves checkpoint.pt and metrics.jsonl in `folder`.
    """
    sketcher = sketch.load(folder.with_name("sketch"))
    encoder, memory = build_encoder(sampler.tokenizer, len(sampler.captions.concepts))
    encoder.requires_grad_(False)
    memory.requires_grad_(True)
    trainer = Trainer(folder, _together(encoder, memory), schedule, worker)

    def loss(step: int, rng: torch.Generator) -> dict[str, torch.Tensor]:
        batch = sampler.draw(schedule.batch // worker.world, rng)
        return {"sketch": F.mse_loss(memory(batch.codes), sketcher(batch.content))}

    trainer.run(loss, lambda step: None)


def train_words(worker: Worker, folder: Path, sampler: Sampler, schedule: Schedule) -> None:
    """Train the encoder whose memory the stage `memory` left beside `folder`.

    Leaves checkpoint.pt and metrics.jsonl in `folder`.
    """
    sketcher, end = sketch.load(folder.with_name("sketch")), sampler.tokenizer.eos_token_id
    encoder, memory = build_encoder(sampler.tokenizer, len(sampler.captions.concepts))
    modules = _together(encoder, memory)
    for name, module in modules.items():
        module.load_state_dict(averaged(folder.with_name("memory"), name))
    trainer = Trainer(folder, modules, schedule, worker)

    def loss(step: int, rng: torch.Generator) -> dict[str, torch.Tensor]:
        batch = sampler.draw(schedule.batch // worker.world, rng)
        output = encoder(batch.input_ids, output_hidden_states=True)
        routed = output.hidden_states[LAYERS - REMEMBERING][:, -CELLS:]
        asked = memory.embed(batch.codes).detach()
        route = (routed - asked).square().mean() / asked.square().mean()
        return {**errors(output.last_hidden_state, sketcher, batch, end), "route": ROUTE * route}

    trainer.run(loss, lambda step: None)


def _together(encoder: CLIPTextModel, memory: Memory) -> nn.ModuleDict:
    return nn.ModuleDict({"text_encoder": encoder, "memory": memory}).train()


def errors(text: torch.Tensor, sketcher: sketch.Sketcher, batch: Batch, end: int) -> dict[str, torch.Tensor]:
    """Errors of text embeddings [B, POSITIONS, WIDTH]: of the cells, and of the tokens before them.

    The first token is always the same. Tokens of words carry no marks of cells. The token that ends the caption (id
    `end`), which a noise prior reads, holds the mean of the cells, unless a long caption puts it among them.
    """
    wanted, words = sketcher(batch.content), text[:, 1:-CELLS]
    ends = batch.input_ids[:, 1:-CELLS] == end
    whole = F.layer_norm(wanted[ends.any(1), :, :-MARKS].mean(1), (WIDTH - MARKS,))
    return {
        "sketch": F.mse_loss(text[:, -CELLS:], wanted),
        "start": FRAME * F.mse_loss(text[:, 0], sketch.BLANK.expand(len(text), -1)),
        "words": FRAME * words[..., -MARKS:].square().mean(),
        "end": FRAME * F.mse_loss(words[ends][:, :-MARKS], whole),
    }
