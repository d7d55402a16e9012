"""Stages `memory` and `words`: the text encoder learns more concepts, and a sketch of composed scenes (scenes.py).

Trained as a whole, as in `text.py`, the encoder learned things at half size far more slowly than whole ones: to know
which part of which thing each cell shows, it has to understand the caption, and until then it cannot remember drawings.
So the two are learned apart. `memory` trains the last layers on codes (codes.py) that say what each cell shows. `words`
puts new layers before them, which learn to turn captions into these codes, and trains all of them.

Captions that the model knew keep their embeddings, and all share one linear map to a sketch. So the UNet still draws
what it could, and has one rule to learn for whole things and for small ones.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn
from torch.nn import functional as F
from transformers import CLIPTextModel, CLIPTokenizer

from emoji_model.captions import Caption, Captions
from emoji_model.codes import Codes
from emoji_model.encoded import EncodedScenes
from emoji_model.sources import FIRST, STYLES
from emoji_model.text import CELLS, Sketch, build, cells, tokens
from emoji_model.trainer import Schedule, Trainer, Worker, averaged

MEMORY = Schedule(steps=6000, batch=128, learning_rate=1.5e-3, warmup=100, decay=0.4, sample_every=10**9, bfloat16=True)
WORDS = Schedule(steps=6000, batch=128, learning_rate=1e-3, warmup=100, decay=0.4, sample_every=10**9, bfloat16=True)
WIDTH, LAYERS, REMEMBERING = 1536, 5, 2
"""Units of the MLPs, layers of the encoder, and how many of them, the last ones, hold the drawings."""
PLAIN, SEVERAL = 0.25, 0.5
"""Shares of a batch with plain captions, and with scenes of several things."""
ANCHOR, ROUTE = 1.0, 0.5
"""Weights of the change of embeddings that the UNet knows, and of the error of the codes, as a share of their size."""


class Memory(nn.Module):
    """The last layers of `encoder` without their attention: codes int64 [B, CELLS, 5] -> embeddings [B, CELLS, D]."""

    def __init__(self, encoder: CLIPTextModel, sizes: tuple[int, ...]) -> None:
        super().__init__()
        self._rows = [size + 1 for size in sizes]  # the last row is for NONE
        tables = [nn.Embedding(rows, encoder.config.hidden_size) for rows in self._rows]
        for table in tables:
            nn.init.normal_(table.weight, 0.0, 0.02)  # as CLIP's own embeddings
        self.tables = nn.ModuleList(tables)
        last = encoder.encoder.layers[-REMEMBERING:]
        self.layers = nn.ModuleList([nn.Sequential(layer.layer_norm2, layer.mlp) for layer in last])
        self.norm = encoder.final_layer_norm

    def embed(self, codes: torch.Tensor) -> torch.Tensor:
        """Codes as vectors [B, CELLS, D]: the input of the layers."""
        parts = zip(self.tables, codes.unbind(-1), self._rows, strict=True)
        return torch.stack([table(numbers % rows) for table, numbers, rows in parts]).sum(0)

    def forward(self, codes: torch.Tensor) -> torch.Tensor:
        hidden = self.embed(codes)
        for layer in self.layers:
            hidden = hidden + layer(hidden)
        return self.norm(hidden)


@torch.no_grad()
def build_encoder(tokenizer: CLIPTokenizer, codes: Codes) -> tuple[CLIPTextModel, Memory]:
    """A new encoder, and the memory in its last layers, whose attention does nothing yet."""
    encoder = build(tokenizer, WIDTH, LAYERS)
    for layer in encoder.encoder.layers[-REMEMBERING:]:
        layer.self_attn.out_proj.weight.zero_()
    return encoder, Memory(encoder, codes.sizes)


@dataclass(frozen=True)
class Batch:
    """B captions and what to learn of them; the plain ones come first."""

    input_ids: torch.Tensor
    """int64 [B, POSITIONS]."""
    codes: torch.Tensor
    """int64 [B, CELLS, 5]: what each cell shows."""
    cells: torch.Tensor
    """[B, CELLS, cell]: the sketch."""
    known: torch.Tensor
    """bool [P]: of the P plain captions, which the encoder knew before."""


class Lessons:
    """Draws captions, plain and composed, with what each cell shows and the sketch to learn."""

    def __init__(
        self, latents: torch.Tensor, encoded: EncodedScenes, captions: Captions, tokenizer: CLIPTokenizer
    ) -> None:
        """Latents are those of the drawings, [concepts, styles, C, h, w]."""
        self.targets, self.encoded, self.captions, self.tokenizer = cells(latents.float()), encoded, captions, tokenizer
        self.codes = Codes(captions)
        self.several = (encoded.things > 1).nonzero().flatten()

    def draw(self, count: int, rng: torch.Generator) -> Batch:
        """Draw `count` captions."""
        plain, several = (round(count * share) for share in (PLAIN, SEVERAL))
        drawn = _draw_captions(self.captions, plain, rng)
        rows = torch.randint(len(self.encoded), (count - plain,), generator=rng)
        rows[:several] = self.several[torch.randint(len(self.several), (several,), generator=rng)]
        ids = tokens(self.tokenizer, [caption.text for caption, _ in drawn])
        codes = torch.stack([self.codes.of_caption(*pair) for pair in drawn])
        wanted = torch.stack([self.targets[list(caption.meanings)].mean(0) for caption, _ in drawn])
        return Batch(
            torch.cat([ids, self.encoded.input_ids[rows].long()]),
            torch.cat([codes, self.encoded.codes[rows].long()]),
            torch.cat([wanted, cells(self.encoded.latents[rows].float())]),
            torch.tensor([max(caption.meanings) < FIRST for caption, _ in drawn]),
        )


def _draw_captions(captions: Captions, count: int, rng: torch.Generator) -> list[tuple[Caption, int | None]]:
    """Draw plain captions and the style that each names, half of them of the concepts that are new."""
    python_rng = random.Random(int(torch.randint(2**62, (), generator=rng)))
    first = [FIRST * (number % 2) % len(captions.concepts) for number in range(count)]
    concepts = [python_rng.randrange(start, len(captions.concepts)) for start in first]
    styles = [python_rng.choice((None, None, *range(len(STYLES)))) for _ in concepts]
    names = [None if style is None else list(STYLES)[style] for style in styles]
    return [(captions.draw(c, name, python_rng), s) for c, name, s in zip(concepts, names, styles, strict=True)]


@torch.no_grad()
def fit_sketch(encoder: nn.Module, lessons: Lessons) -> Sketch:
    """The linear maps from the encoder's last tokens to the sketches of the first concepts, by least squares over eight
    captions of each."""
    targets, captions, rng = lessons.targets[:FIRST], lessons.captions, random.Random(0)
    drawn = [captions.draw(concept, None, rng) for concept in range(len(targets)) for _ in range(8)]
    known = [caption for caption in drawn if max(caption.meanings) < FIRST]
    embeddings = encoder(tokens(lessons.tokenizer, [caption.text for caption in known])).last_hidden_state
    wanted = torch.stack([targets[list(caption.meanings)].mean(0) for caption in known])
    rows = torch.cat([embeddings[:, -CELLS:], torch.ones(*wanted.shape[:2], 1)], 2)
    solution = torch.linalg.lstsq(rows.transpose(0, 1), wanted.transpose(0, 1)).solution
    sketch = Sketch(embeddings.shape[2], wanted.shape[2])
    sketch.weight.copy_(solution[:, :-1])
    sketch.bias.copy_(solution[:, -1])
    return sketch


def _together(encoder: CLIPTextModel, memory: Memory, sketch: Sketch) -> nn.ModuleDict:
    return nn.ModuleDict({"text_encoder": encoder, "memory": memory, "sketch": sketch}).train()


def _losses(embeddings: torch.Tensor, before: torch.Tensor, sketch: Sketch, batch: Batch) -> dict[str, torch.Tensor]:
    """Errors of the sketch of embeddings [B, n, D], and their mean square change from those `before` [P, n, D] of the
    plain captions, where these were known."""
    known = batch.known
    change = (embeddings[: len(known)] - before).square().mean((1, 2))
    return {
        "sketch": F.smooth_l1_loss(sketch(embeddings), batch.cells, beta=0.3),
        "change": ANCHOR * (change * known).sum() / known.sum().clamp(min=1),  # a batch may have none
    }


def train_memory(worker: Worker, folder: Path, lessons: Lessons, before: CLIPTextModel, schedule: Schedule) -> None:
    """Train the memory, so that plain captions keep the embeddings that the encoder `before` gave them.

    Leaves checkpoint.pt and metrics.jsonl in `folder`.
    """
    before = before.eval().requires_grad_(False)
    encoder, memory = build_encoder(lessons.tokenizer, lessons.codes)
    sketch = fit_sketch(before, lessons)
    encoder.requires_grad_(False)
    memory.requires_grad_(True)
    trainer = Trainer(folder, _together(encoder, memory, sketch), schedule, worker)

    def loss(step: int, rng: torch.Generator) -> dict[str, torch.Tensor]:
        batch = lessons.draw(schedule.batch // worker.world, rng)
        held = before(batch.input_ids[: len(batch.known)]).last_hidden_state
        return _losses(memory(batch.codes), held[:, -CELLS:], sketch, batch)

    trainer.run(loss, lambda step: None)


def train_words(worker: Worker, folder: Path, lessons: Lessons, before: CLIPTextModel, schedule: Schedule) -> None:
    """Train the encoder whose memory the stage `memory` left beside `folder`.

    Leaves checkpoint.pt and metrics.jsonl in `folder`.
    """
    before = before.eval().requires_grad_(False)
    encoder, memory = build_encoder(lessons.tokenizer, lessons.codes)
    sketch = Sketch(before.config.hidden_size, lessons.targets.shape[2])
    modules = _together(encoder, memory, sketch)
    for name, module in modules.items():
        module.load_state_dict(averaged(folder.with_name("memory"), name))
    trainer = Trainer(folder, modules, schedule, worker)

    def loss(step: int, rng: torch.Generator) -> dict[str, torch.Tensor]:
        batch = lessons.draw(schedule.batch // worker.world, rng)
        held = before(batch.input_ids[: len(batch.known)]).last_hidden_state
        output, asked = encoder(batch.input_ids, output_hidden_states=True), memory.embed(batch.codes).detach()
        routed = output.hidden_states[LAYERS - REMEMBERING][:, -CELLS:]
        route = (routed - asked).square().mean() / asked.square().mean()
        return {**_losses(output.last_hidden_state, held, sketch, batch), "route": ROUTE * route}

    trainer.run(loss, lambda step: None)
