"""Stage `scorers`: what the emoji scorers learn to prefer, from pairs whose better half is known.

    real      a drawing through the autoencoder, against what the generator made of the same prompt
    match     a picture under its own prompt, against the same picture under prompts of other concepts
    clean     a picture, against the same one degraded: blurred, blended, patched, misplaced
    sample    of two generated pictures of one prompt in one style, the one that is nearer to the style's drawing

Bradley-Terry: the logit of the preference is scale * (s - s'). First they learn `match` alone and, with classifiers
that are thrown away, to tell the concepts apart, and drawings from generated pictures: PickScore was a CLIP before,
ImageReward a BLIP.

Scorers learn shortcuts where they can: so every picture is rounded to bytes, jittered on its own in contrast,
brightness, sharpness and noise, and real pictures pass through the autoencoder like generated ones; and a picture that
is jittered twice must score the same twice. `invariance` measures what is left.
"""

from __future__ import annotations

import platform
import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import CLIPTokenizer

from emoji_model import coupling, scorer
from emoji_model.autoencoder import reconstruct
from emoji_model.captions import Captions
from emoji_model.distortions import degrade, harmless, jitter
from emoji_model.evaluate import decode, draw_latents
from emoji_model.targets import apply_attributes
from emoji_model.text import tokens
from emoji_model.trainer import Schedule, Trainer, Worker, averaged
from pahi_rt.errors import PahiError
from pahi_rt.machine import cpu_name
from pahi_rt.models.generators import Generator

SCHEDULE = Schedule(steps=1600, batch=32, learning_rate=1e-3, warmup=100, decay=0.5, sample_every=10**9)
SAMPLES, REALS = 16, 2
"""Generated pictures of each concept, and tints of each drawing, in a pool."""
MARGIN = 1.3
"""Of two generated pictures one is clearly better if the other's squared error is so many times as large.

Some styles are cheaper in squared error than others: the style explains two thirds of what varies within a prompt, and
pairs across styles would teach a liking for the cheap one. Within a style errors are closer together: of 12 pictures
57 % have a partner that is 1.2 times as good or bad, 43 % one that is 1.3 times (20 concepts).
"""
CONCEPT_STEPS = 500
"""Steps before the other kinds of pairs are learned: beside those, which are easy, `match` hardly moved in 700."""
FOREIGN = 8
"""Prompts that a picture is held against besides its own: those of the next rows of the batch."""
PAIRS = ("real", "match", "clean", "sample")
LEAST_ACCURACY, MOST_SHIFT = 0.9, 0.1
"""What a scorer must reach on every kind of pair, and what no harmless change may exceed, to be installed."""


@dataclass(frozen=True)
class Pool:
    """Pictures to learn from, or others to be measured on."""

    real: Tensor
    """uint8 [concepts, styles * REALS, 3, H, W]: drawings through the autoencoder."""
    samples: Tensor
    """uint8 [concepts, SAMPLES, 3, H, W]: generated for the concept's label, half of them from unusual noise."""
    errors: Tensor
    """float32 [concepts, SAMPLES]: squared error against the nearest of the concept's drawings on the same tint."""
    styles: Tensor
    """int64 [concepts, SAMPLES]: the style of that drawing."""


def join(pools: Sequence[Pool]) -> Pool:
    """One pool of all pictures of several."""
    return Pool(*(torch.cat(parts, 1) for parts in zip(*(vars(pool).values() for pool in pools), strict=True)))


def make_pool(
    model: Generator, words: CLIPTokenizer, labels: Sequence[str], pictures: Tensor, generator: torch.Generator
) -> Pool:
    """Draw a pool: `labels` has one plain prompt per concept, `pictures` is uint8 [concepts, styles, 4, H, W]."""
    rows = [_draw_concept(model, words, *row, generator) for row in zip(labels, pictures, strict=True)]
    return Pool(*(torch.stack(parts) for parts in zip(*rows, strict=True)))


@torch.no_grad()
def _draw_concept(
    model: Generator, words: CLIPTokenizer, label: str, drawings: Tensor, generator: torch.Generator
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    tints = 1.3 * torch.randn(len(drawings) * REALS, coupling.COUNT, generator=generator)
    real = reconstruct(model.decoder, apply_attributes(drawings.repeat_interleave(REALS, 0), tints))
    noise = unusual_noise(SAMPLES, generator)
    drawn = decode(model, draw_latents(model, words, [label] * SAMPLES, noise, steps=1))
    values = coupling.read(noise).repeat_interleave(len(drawings), 0)
    wanted = apply_attributes(drawings.repeat(SAMPLES, 1, 1, 1), values).unflatten(0, (SAMPLES, len(drawings)))
    errors, styles = (drawn[:, None] - wanted).square().mean((2, 3, 4)).min(1)
    return to_bytes(real), to_bytes(drawn), errors, styles


def unusual_noise(count: int, generator: torch.Generator) -> Tensor:
    """Noise [count, C, h, w]: one half Gaussian, the other smaller or larger, shifted at low frequencies and where the
    generator reads it.

    Where a prior may lead, the scorer must have been: it knows nothing of pictures that it never saw.
    """
    shape = (coupling.CHANNELS, coupling.HEIGHT, coupling.WIDTH)
    noise = torch.randn(count, *shape, generator=generator)
    half = count // 2
    size = 0.6 + 0.6 * torch.rand(half, 1, 1, 1, generator=generator)
    shift = F.interpolate(torch.randn(half, shape[0], 4, 4, generator=generator), shape[1:], mode="bicubic")
    noise[:half] = noise[:half] * size + shift * torch.rand(half, 1, 1, 1, generator=generator)
    values = coupling.read(noise[:half])
    noise[:half] = coupling.write(noise[:half], values + torch.randn(values.shape, generator=generator))
    return noise


def to_bytes(pictures: Tensor) -> Tensor:
    """Rounded, not floored: floored pools taught a scorer that exactly 255 is real."""
    return (pictures.clamp(0, 1) * 255).round().to(torch.uint8)


@dataclass(frozen=True)
class Batch:
    """Pictures float [B, 3, H, W] in [0, 1] of one concept a row, and its prompt."""

    concepts: Tensor
    """int64 [B]"""
    real: Tensor
    one: Tensor
    other: Tensor
    degraded: Tensor
    again: Tensor
    """The picture of `one`, jittered once more."""
    of_real: Tensor
    """bool [B]: whether `degraded` was made from `real`; else from `one`."""
    input_ids: Tensor
    foreign: Tensor
    """bool [FOREIGN, B]: whether row b's prompt means something else than that of row b - 1, b - 2, and so on."""
    errors: Tensor
    """[B, 2]: of `one` and `other`."""
    telling: Tensor
    """bool [B]: whether `one` and `other` are in one style, and one of them is clearly better."""

    @property
    def pictures(self) -> Tensor:
        """All of them [5 B, 3, H, W], first those that learn concepts."""
        return torch.cat([self.real, self.one, self.other, self.degraded, self.again])


def draw_batch(pool: Pool, captions: Captions, words: CLIPTokenizer, count: int, generator: torch.Generator) -> Batch:
    rng = random.Random(int(torch.randint(2**62, (), generator=generator)))
    concepts = torch.randint(len(pool.real), (count,), generator=generator)
    drawn = [captions.draw(concept, None, rng) for concept in concepts.tolist()]
    real = pool.real[concepts, torch.randint(pool.real.shape[1], (count,), generator=generator)] / 255
    places, telling = draw_places(pool, concepts, generator)
    samples = pool.samples[concepts[:, None], places] / 255
    # Drawings and generated pictures are degraded alike, and with either, or the damage would be a mark of one of them.
    of_real, of_other = torch.rand(2, count, generator=generator) < 0.5
    damaged, others = (torch.where(of[:, None, None, None], real, samples[:, 0]) for of in (of_real, of_other))
    degraded = degrade(damaged, others.roll(1, 0), generator)
    mirrored = torch.rand(count, 1, 1, 1, generator=generator) < 0.5
    real, one, other, degraded, again = (
        jitter(torch.where(mirrored, pictures.flip(-1), pictures), generator)
        for pictures in (real, samples[:, 0], samples[:, 1], degraded, samples[:, 0])
    )
    input_ids = tokens(words, [caption.text for caption in drawn])
    foreign = _foreign([set(caption.meanings) for caption in drawn])
    errors = pool.errors[concepts[:, None], places]
    return Batch(concepts, real, one, other, degraded, again, of_real, input_ids, foreign, errors, telling)


def draw_places(pool: Pool, concepts: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Two of the generated pictures of each of `concepts` [B]: int64 [B, 2], and bool [B], as in `Batch.telling`.

    The first is any picture, the second one that makes the pair telling, where there is such a one.
    """
    rows, errors, styles = torch.arange(len(concepts)), pool.errors[concepts], pool.styles[concepts]
    first = torch.randint(errors.shape[1], (len(concepts),), generator=generator)
    ratios = errors / errors[rows, first][:, None]
    fits = (styles == styles[rows, first][:, None]) & (torch.maximum(ratios, 1 / ratios) > MARGIN)
    second = (fits + torch.rand(errors.shape, generator=generator)).argmax(1)
    return torch.stack([first, second], 1), fits[rows, second]


def _foreign(meanings: Sequence[set[int]]) -> Tensor:
    """What each row's prompt may mean -> `Batch.foreign`."""
    count = len(meanings)
    others = [[meanings[row - shift % count] for row in range(count)] for shift in range(1, FOREIGN + 1)]
    return torch.tensor([[own.isdisjoint(other) for own, other in zip(meanings, row, strict=True)] for row in others])


def recognise(network: scorer.Network, classifier: nn.Module, seen: Tensor, batch: Batch) -> dict[str, Tensor]:
    """The first losses, of what was `seen` of `real` and `one`: of `match`, and of the concept's logits."""
    match = against_foreign(network, seen, network.judge(seen, batch.input_ids.repeat(2, 1)), batch)
    named = F.cross_entropy(classifier(scorer.pool(seen)), batch.concepts.repeat(2))
    return {"match": bradley_terry(network, match), "concept": named}


def detect(detector: nn.Module, seen: Tensor) -> dict[str, Tensor]:
    """The loss of telling drawings from generated pictures, of what was `seen` of as many of either.

    `real` compares two pictures that may differ in style and tint as well: emoji-b was at chance after 800 steps.
    """
    logits = detector(scorer.pool(seen)).squeeze(1)
    drawn = torch.tensor([1.0, 0.0]).repeat_interleave(len(seen) // 2)
    return {"drawn": F.binary_cross_entropy_with_logits(logits, drawn)}


def look(network: scorer.Network, pictures: Tensor) -> Tensor:
    """What the network sees, in float32; while it trains the convolutions are in bfloat16, in half the time."""
    with torch.autocast("cpu", torch.bfloat16, enabled=network.training):
        return network.look(pictures).float()


def bradley_terry(network: scorer.Network, differences: Tensor) -> Tensor:
    """Mean loss of score differences, better minus worse; a sum over none is 0, where a mean would be NaN."""
    return F.softplus(-network.logits(differences)).sum() / max(1, len(differences))


def against_foreign(network: scorer.Network, seen: Tensor, own: Tensor, batch: Batch) -> Tensor:
    """`own` scores [2 B] of what was `seen` of two pictures of each row, minus those under other concepts' prompts."""
    shifts = range(1, FOREIGN + 1)
    others = [network.judge(seen, batch.input_ids.roll(shift, 0).repeat(2, 1)) for shift in shifts]
    return (own - torch.stack(others))[batch.foreign.repeat(1, 2)]


def compare(network: scorer.Network, seen: Tensor, batch: Batch) -> dict[str, Tensor]:
    """Score differences, better minus worse, of each kind of pair; for `sample` only of telling pairs.

    And `steady`, of one picture jittered twice, neither of which is better. `seen`: of the batch's five pictures a row.
    """
    ids = batch.input_ids
    real, one, other, degraded, again = network.judge(seen, ids.repeat(5, 1)).chunk(5)
    nearer = torch.where(batch.errors[:, 0] < batch.errors[:, 1], one - other, other - one)
    return {
        "real": real - one,
        "match": against_foreign(network, seen[: 2 * len(ids)], torch.cat([real, one]), batch),
        "clean": torch.where(batch.of_real, real, one) - degraded,
        "sample": nearer[batch.telling],
        "steady": again - one,
    }


def prefer(network: scorer.Network, seen: Tensor, batch: Batch) -> dict[str, Tensor]:
    """The later losses: of each kind of pair, and of what harmless changes do."""
    differences = compare(network, seen, batch)
    steady = network.logits(differences["steady"]).square().mean()
    return {kind: bradley_terry(network, differences[kind]) for kind in PAIRS} | {"steady": steady}


def train(
    worker: Worker, folder: Path, name: str, pool: Pool, captions: Captions, words: CLIPTokenizer, schedule: Schedule
) -> None:
    """Leaves checkpoint.pt (under `network`) and metrics.jsonl in `folder`."""
    network = scorer.KINDS[name](len(words))
    classifier, detector = nn.Linear(2 * network.width, len(pool.real)), nn.Linear(2 * network.width, 1)
    modules = nn.ModuleDict({"network": network, "classifier": classifier, "detector": detector})
    trainer = Trainer(folder, modules.train(), schedule, worker)

    def loss(step: int, generator: torch.Generator) -> dict[str, Tensor]:
        batch = draw_batch(pool, captions, words, schedule.batch // worker.world, generator)
        pictures, both = batch.pictures, 2 * len(batch.real)
        if step < CONCEPT_STEPS:
            seen = look(network, pictures[:both])
            return recognise(network, classifier, seen, batch) | detect(detector, seen)
        seen = look(network, pictures)
        return prefer(network, seen, batch) | detect(detector, seen[:both])

    trainer.run(loss, lambda step: None)


def load(folder: Path, name: str, words: CLIPTokenizer) -> scorer.Network:
    """The trained network (moving average of the weights), frozen."""
    network = scorer.KINDS[name](len(words))
    network.load_state_dict(averaged(folder, "network"))
    return network.eval().requires_grad_(False)


def measure(network: scorer.Network, pool: Pool, captions: Captions, words: CLIPTokenizer) -> dict[str, Any]:
    """Accuracy on each kind of pair, and how far harmless changes move the score.

    Held out from training are the pool's noises and tints, and the draw of captions and damage. The concepts, their
    drawings, the ways of wording and of damaging are those of training.
    """
    labels = [concept.label for concept in captions.concepts]
    return {
        "hardware": f"{cpu_name() or platform.machine()}, {torch.get_num_threads()} threads",
        "held_out": "noises, tints, draws of captions and damage; not concepts, drawings or kinds of damage",
        "pair_accuracy": accuracy(network, pool, captions, words, seed=0),
        "shift_by_harmless_changes_in_prompt_std": invariance(network, pool, labels, words),
        "parameters": sum(p.numel() for p in network.parameters()),
    }


def require(name: str, report: dict[str, Any]) -> None:
    """PahiError if a report of `measure` misses LEAST_ACCURACY or MOST_SHIFT somewhere, or does not say."""
    pairs, shifts = (report.get(key, {}) for key in ("pair_accuracy", "shift_by_harmless_changes_in_prompt_std"))
    wrong = [f"{kind} pairs {pairs.get(kind)}" for kind in PAIRS if not pairs.get(kind, 0) >= LEAST_ACCURACY]
    wrong += [f"{change} {shift}" for change, shift in shifts.items() if not abs(shift) <= MOST_SHIFT]
    if wrong or not shifts:
        needed = (
            f"at least {LEAST_ACCURACY} on each kind of pair and at most {MOST_SHIFT} by harmless changes are needed"
        )
        fix = f"train it longer: python -m emoji_model scorers --steps {2 * SCHEDULE.steps}"
        raise PahiError(
            f"the scorer {name} is not good enough ({', '.join(wrong) or 'not measured'}): {needed}", fix=fix
        )


@torch.no_grad()
def accuracy(
    network: scorer.Network, pool: Pool, captions: Captions, words: CLIPTokenizer, seed: int
) -> dict[str, float]:
    """Share of a pool's pairs whose better half scores higher."""
    generator = torch.Generator().manual_seed(seed)
    batches = (draw_batch(pool, captions, words, 64, generator) for _ in range(24))
    parts = [compare(network, look(network, batch.pictures), batch) for batch in batches]
    return {kind: round(float((torch.cat([p[kind] for p in parts]) > 0).float().mean()), 4) for kind in PAIRS}


@torch.no_grad()
def invariance(network: scorer.Network, pool: Pool, labels: Sequence[str], words: CLIPTokenizer) -> dict[str, float]:
    """How far harmless changes move the mean score, in standard deviations of the scores of one prompt's pictures."""
    generator = torch.Generator().manual_seed(0)
    scores: dict[str, list[Tensor]] = {}
    for label, samples in zip(labels, pool.samples, strict=True):
        # The second half was drawn from standard Gaussian noise.
        pictures = samples[len(samples) // 2 :] / 255
        # Undo the rounding, or flooring would change nothing.
        pictures = (pictures + (torch.rand(pictures.shape, generator=generator) - 0.5) / 255).clamp(0, 1)
        ids = tokens(words, [label] * len(pictures))
        for change, changed in ({"none": pictures} | harmless(pictures)).items():
            scores.setdefault(change, []).append(network(changed, ids))
    table = {change: torch.stack(rows) for change, rows in scores.items()}
    plain = table.pop("none")
    spread = plain.var(1).mean().sqrt()
    return {change: round(float((rows - plain).mean() / spread), 4) for change, rows in table.items()}


@torch.no_grad()
def standardise(network: scorer.Network, pool: Pool, labels: Sequence[str], words: CLIPTokenizer) -> None:
    """Set a CrossEncoder's mean and standard deviation to those of the generated pictures' rewards."""
    if isinstance(network, scorer.CrossEncoder):
        rows = [
            network(samples / 255, tokens(words, [label] * len(samples)))
            for label, samples in zip(labels, pool.samples, strict=True)
        ]
        network.mean, network.std = torch.cat(rows).mean(), torch.cat(rows).std()
