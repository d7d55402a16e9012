"""Stages `words` and `widen`: the model learns more concepts, and to compose them (scenes.py).

`words` trains the text encoder alone, as `text.py` does and for the same reason: its last tokens learn to hold a sketch
of the scene. They keep the linear map that the UNet learned to unpack, and captions that the model knew keep their
embeddings, so the UNet can draw a good part of the new captions before it is trained on them. `widen` then trains the
UNet alone: when both learned, the encoder lost a third of what it held of new concepts in 5,000 steps, and the UNet did
not learn to draw things at half size from what was left.
"""

from __future__ import annotations

import random
from dataclasses import fields
from pathlib import Path

import torch
from diffusers import AutoencoderTiny
from torch import nn
from torch.nn import functional as F
from transformers import CLIPTextModel, CLIPTokenizer

from emoji_model import coupling, generator, text
from emoji_model.captions import Caption, Captions
from emoji_model.encoded import OPEN, EncodedScenes
from emoji_model.generator import Batch, Sampler
from emoji_model.pictures import save_grid
from emoji_model.sources import FIRST, STYLES
from emoji_model.text import Sketch, cells, tokens
from emoji_model.trainer import Schedule, Trainer, Worker
from pahi_rt.models.sampling import euler_schedule

WORDS = Schedule(steps=16_000, batch=128, learning_rate=1.5e-3, warmup=200, decay=0.3, sample_every=10**9)
SCHEDULE = Schedule(steps=9000, batch=48, learning_rate=8e-4, warmup=300, decay=0.25, sample_every=500)
WORDS_PLAIN, WORDS_SEVERAL = 0.25, 0.5
"""Shares of a batch of `words` with plain captions, and with scenes of several things. Things at half size are learned
last: with a quarter of the batch, the details of only 15 % of them were held after 7,000 steps (R2 of the sketch)."""
WORDS_WIDTH = 1536
"""Units of the text encoder's MLPs from `words` on. They hold the drawings; 768 were full with whole ones."""
PLAIN = 0.3
"""Share of a batch with plain captions. More than half of the composed ones show one thing, which teaches it too."""
AGAIN = 0.25
"""Share of a batch that is drawn a second time."""
ANCHOR = 1.0
"""Weight of the change of embeddings that the UNet knows."""
PREVIEW = (
    "a blue frog", "two cats", "a cat with sunglasses", "three red apples", "a rocket and a star", "astronaut",
    "a panda on a green background", "a purple cat on a yellow background", "a ghost with a crown", "fireworks",
    "a pizza next to a beer mug", "two dogs", "grinning cat", "fox", "a green heart", "sandwich",
)  # fmt: skip


@torch.no_grad()
def fit_sketch(encoder: nn.Module, captions: Captions, latents: torch.Tensor, tokenizer: CLIPTokenizer) -> Sketch:
    """The linear maps from the encoder's last tokens to the latents [concepts, styles, C, h, w] of the first concepts,
    by least squares over eight captions of each."""
    targets, rng = cells(latents[:FIRST].float()), random.Random(0)
    drawn = [captions.draw(concept, None, rng) for concept in range(len(targets)) for _ in range(8)]
    known = [caption for caption in drawn if max(caption.meanings) < FIRST]
    embeddings = encoder(tokens(tokenizer, [caption.text for caption in known])).last_hidden_state
    wanted = torch.stack([targets[list(caption.meanings)].mean(0) for caption in known])
    rows = torch.cat([embeddings[:, -wanted.shape[1] :], torch.ones(*wanted.shape[:2], 1)], 2)
    solution = torch.linalg.lstsq(rows.transpose(0, 1), wanted.transpose(0, 1)).solution
    sketch = Sketch(embeddings.shape[2], wanted.shape[2])
    sketch.weight.copy_(solution[:, :-1])
    sketch.bias.copy_(solution[:, -1])
    return sketch


def train_words(
    worker: Worker, folder: Path, latents: torch.Tensor, encoded: EncodedScenes, captions: Captions,
    tokenizer: CLIPTokenizer, encoder: CLIPTextModel, schedule: Schedule,
) -> None:  # fmt: skip
    """Train the encoder on plain captions (latents [concepts, styles, C, h, w]) and on composed ones.

    Leaves checkpoint.pt and metrics.jsonl in `folder`.
    """
    targets, before = cells(latents.float()), encoder.eval().requires_grad_(False)
    sketch = fit_sketch(before, captions, latents, tokenizer)
    encoder = text.grow(before, tokenizer, WORDS_WIDTH)
    modules = nn.ModuleDict({"text_encoder": encoder.requires_grad_(True), "sketch": sketch}).train()
    trainer = Trainer(folder, modules, schedule, worker)
    count, of_several = schedule.batch // worker.world, (encoded.things > 1).nonzero().flatten()
    plain, several = (round(count * share) for share in (WORDS_PLAIN, WORDS_SEVERAL))

    def loss(step: int, rng: torch.Generator) -> dict[str, torch.Tensor]:
        drawn = _draw_captions(captions, plain, rng)
        rows = torch.randint(len(encoded), (count - plain,), generator=rng)
        rows[:several] = of_several[torch.randint(len(of_several), (several,), generator=rng)]
        known = torch.tensor([max(caption.meanings) < FIRST for caption in drawn])
        ids = torch.cat([tokens(tokenizer, [caption.text for caption in drawn]), encoded.input_ids[rows].long()])
        wanted = [torch.stack([targets[list(caption.meanings)].mean(0) for caption in drawn])]
        wanted.append(cells(encoded.latents[rows].float()))
        embeddings = encoder(ids).last_hidden_state
        change = (embeddings[:plain] - before(ids[:plain]).last_hidden_state).square().mean((1, 2))
        return {
            "sketch": F.smooth_l1_loss(sketch(embeddings), torch.cat(wanted), beta=0.3),
            "change": ANCHOR * (change * known).sum() / known.sum().clamp(min=1),  # a batch may have none
        }

    trainer.run(loss, lambda step: None)


def _draw_captions(captions: Captions, count: int, rng: torch.Generator) -> list[Caption]:
    """Draw plain captions, half of them of the concepts that the encoder does not know yet."""
    python_rng = random.Random(int(torch.randint(2**62, (), generator=rng)))
    first = [FIRST * (number % 2) % len(captions.concepts) for number in range(count)]
    concepts = [python_rng.randrange(start, len(captions.concepts)) for start in first]
    return [captions.draw(c, python_rng.choice((None, None, *STYLES)), python_rng) for c in concepts]


def draw_composed(encoded: EncodedScenes, count: int, rng: torch.Generator) -> Batch:
    """Draw `count` scenes, with noise that asks for their tint, in the style that the noise asks for."""
    rows = torch.randint(len(encoded), (count,), generator=rng)
    noise = torch.randn(count, *generator.LATENT_SHAPE, generator=rng)
    values = coupling.read(noise)
    tint = torch.where(encoded.grounded[rows, None], values[:, coupling.TINT], encoded.values[rows][:, coupling.TINT])
    values[:, coupling.TINT] = tint
    named, every = encoded.style[rows].long(), encoded.latents[rows].float()
    style = torch.where(named == OPEN, coupling.style_of(values), named)
    return Batch(
        encoded.input_ids[rows].long(), coupling.write(noise, values), every[torch.arange(count), style], every
    )


def join(*batches: Batch) -> Batch:
    """Batches one after the other."""
    return Batch(**{f.name: torch.cat([getattr(batch, f.name) for batch in batches]) for f in fields(Batch)})


def train(
    worker: Worker, folder: Path, sampler: Sampler, encoded: EncodedScenes, vae: AutoencoderTiny, schedule: Schedule
) -> None:  # fmt: skip
    """Train the UNet that the stage `generator` left beside `folder`, for the text encoder that `words` left.

    Leaves checkpoint.pt, metrics.jsonl and grids (PREVIEW x 6 seeds) in `folder`.
    """
    # Loaded here: a fork server hands over at most 256 tensors.
    modules = generator.load(folder.with_name("generator"), sampler.tokenizer)
    modules["text_encoder"] = text.load(folder.with_name("words"), sampler.tokenizer).eval().requires_grad_(False)
    modules["unet"].requires_grad_(True).train()
    trainer = Trainer(folder, modules, schedule, worker)
    two = euler_schedule(generator.build_scheduler(), 2)
    count = schedule.batch // worker.world
    plain = round(count * PLAIN)

    def loss(step: int, rng: torch.Generator) -> dict[str, torch.Tensor]:
        batch = join(sampler.draw(plain, rng), draw_composed(encoded, count - plain, rng))
        # Every other row, so that both kinds are drawn a second time.
        return generator.losses(modules, batch, two, slice(step % 2, None, round(1 / AGAIN)))

    def sample(step: int) -> None:
        shown = generator.preview(trainer.ema, vae, sampler.tokenizer, steps=1, prompts=PREVIEW)
        save_grid(shown, 12, folder / f"{step}.png")

    trainer.run(loss, sample)
