"""Stage `scorers`: trains the emoji scorers on pairs whose better half is known.

    real      a drawing through the autoencoder, over a generated picture of the same prompt
    match     a picture under its own prompt, over the same picture under prompts of other subjects
    clean     a picture, over the same one degraded: blurred, blended, patched, torn
    sample    of two generated pictures of one prompt in one style, the one that is nearer to the style's drawing

The loss is Bradley-Terry: the logit of the preference is scale * (s - s'). Scorers first learn to tell drawings from
generated pictures, then `match` and to tell subjects apart too, with classifiers that are discarded afterwards. This
replaces the pre-training of PickScore, which started as a CLIP, and of ImageReward, which started as a BLIP.

Scorers learn shortcuts where they can. So every picture is rounded to bytes, and jittered separately in contrast,
brightness, sharpness and noise; real pictures pass through the autoencoder like generated ones; and a picture that is
jittered twice must score the same twice. `assessment.invariance` measures what is left.

No style is better than another, and no pair above compares two. What scorers then think of styles is an accident, and
another one for each scorer: it explained 28 to 30 % of the variance between pictures of a prompt, with a correlation of
0.24 between the scorers. So a picture and its twin, which differs in the style alone, must score the same, too.
`assessment.style_preferences` measures what is left of that.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import CLIPTokenizer

from emoji_model import scorer
from emoji_model.distortions import degrade, jitter
from emoji_model.pools import REALS, Pool
from emoji_model.sources import STYLES
from emoji_model.subjects import Subjects
from emoji_model.text import tokens
from emoji_model.trainer import Schedule, Trainer, Worker, averaged, bfloat16

SCHEDULE = Schedule(steps=4000, batch=32, learning_rate=1e-3, warmup=100, decay=0.5, sample_every=10**9)
MARGIN = 1.3
"""A generated picture is clearly better than another if the other's squared error is at least this many times as large.

Some styles have lower squared errors than others: the style explains two thirds of the variance within a prompt, and
pairs across styles would teach scorers to prefer the style with low errors. Within a style errors are closer together:
of 12 pictures 57 % have a partner that is 1.2 times as good or bad, 43 % one that is 1.3 times (20 concepts).
"""
DETECTION, RECOGNITION = 350, 600
"""Steps of the first and of the second phase: telling drawings from generated pictures, then subjects too. With both
from the start, the detector was at chance after 900 steps; alone, it was right in 82 % after 325. `match` needs a phase
of its own, too: beside the other kinds of pairs, which are easy, it hardly moved in 700 steps."""
FOREIGN = 8
"""Prompts besides its own that a picture is scored under: those of neighbouring rows of the batch."""
PAIRS = ("real", "match", "clean", "sample")
NEUTRAL = {"steady": 1.0, "style": 4.0}
"""Kinds of pairs of which neither half is better -> the weight of their loss. With 1 for both, the style explained 23
and 27 % of the variance between generated pictures after 1,900 steps."""


@dataclass(frozen=True)
class Batch:
    """B rows: pictures, float [B, 3, H, W] in [0, 1], of one subject each, and its prompt."""

    subjects: Tensor
    """int64 [B]: indices of the subjects."""
    real: Tensor
    """A drawing through the autoencoder."""
    one: Tensor
    """A generated picture."""
    other: Tensor
    """Another generated picture."""
    degraded: Tensor
    """`real` or `one`, damaged."""
    again: Tensor
    """The picture of `one`, jittered separately."""
    twin: Tensor
    """The drawing of `real` in another style on the same tint, or the twin of `one`."""
    twin_of_real: Tensor
    """bool [B]: whether `twin` belongs to `real`; else to `one`."""
    fair: Tensor
    """bool [B]: whether `twin` has another style, and neither picture is clearly better for its style."""
    of_real: Tensor
    """bool [B]: whether `degraded` was made from `real`; else from `one`."""
    input_ids: Tensor
    """int64 [B, T]: tokens of the prompts."""
    foreign: Tensor
    """bool [FOREIGN, B]: whether row b's prompt means something else than that of row b - 1, b - 2, and so on."""
    errors: Tensor
    """[B, 2]: `Pool.errors` of `one` and `other`."""
    telling: Tensor
    """bool [B]: whether `one` and `other` have the same style, and one of them is clearly better."""

    @property
    def pictures(self) -> Tensor:
        """All pictures [6 B, 3, H, W]; those of the first two phases come first."""
        return torch.cat([self.real, self.one, self.other, self.degraded, self.again, self.twin])


def draw_batch(pool: Pool, subjects: Subjects, tokenizer: CLIPTokenizer, count: int, rng: torch.Generator) -> Batch:
    """Draw a batch of `count` rows. It depends only on the arguments and on the order in which `rng` is used here."""
    python_rng = random.Random(int(torch.randint(2**62, (), generator=rng)))
    rows = torch.randint(len(pool.real), (count,), generator=rng)
    drawn = [subjects.caption(row, python_rng) for row in rows.tolist()]
    drawn_places = torch.randint(pool.real.shape[1], (count,), generator=rng)
    real = pool.real[rows, drawn_places] / 255
    places, telling = draw_places(pool, rows, rng)
    one, other = (pool.samples[rows[:, None], places] / 255).unbind(1)
    degraded, of_real = _draw_degraded(real, one, rng)
    twin, twin_of_real, fair = _draw_twin(pool, rows, drawn_places, places[:, 0], rng)
    mirrored = torch.rand(count, 1, 1, 1, generator=rng) < 0.5

    def vary(pictures: Tensor) -> Tensor:
        return jitter(torch.where(mirrored, pictures.flip(-1), pictures), rng)

    return Batch(
        subjects=rows,
        real=vary(real),
        one=vary(one),
        other=vary(other),
        degraded=vary(degraded),
        again=vary(one),
        twin=vary(twin),
        twin_of_real=twin_of_real,
        fair=fair,
        of_real=of_real,
        input_ids=tokens(tokenizer, [caption.text for caption in drawn]),
        foreign=_foreign([set(caption.meanings) for caption in drawn]),
        errors=pool.errors[rows[:, None], places],
        telling=telling,
    )


def _draw_degraded(real: Tensor, one: Tensor, rng: torch.Generator) -> tuple[Tensor, Tensor]:
    """Damage `real` or `one` in each row: the pictures [B, 3, H, W], and `Batch.of_real` [B].

    Both kinds are damaged, with pictures of both kinds; otherwise damage would be a mark of one kind.
    """
    of_real, of_other = torch.rand(2, len(real), generator=rng) < 0.5
    damaged, others = (torch.where(of[:, None, None, None], real, one) for of in (of_real, of_other))
    return degrade(damaged, others.roll(1, 0), rng), of_real


def _draw_twin(
    pool: Pool, subjects: Tensor, real: Tensor, one: Tensor, rng: torch.Generator
) -> tuple[Tensor, Tensor, Tensor]:
    """The twin of the drawing at the places `real` [B] or of the picture at `one` [B]: `Batch.twin` and what follows.

    Drawings are equally good. Of generated pictures, styles differ in their errors; a picture is as good as its twin if
    both are about as good as is usual in their styles.
    """
    block = len(STYLES) * REALS
    shifts = REALS * torch.randint(1, len(STYLES), (len(real),), generator=rng)
    drawn = pool.real[subjects, real - real % block + (real + shifts) % block]
    other = one ^ 1
    goodness = pool.errors[subjects] / pool.usual_errors[subjects]
    rows = torch.arange(len(one))
    ratios, styles = goodness[rows, one] / goodness[rows, other], pool.styles[subjects]
    fair = (styles[rows, one] != styles[rows, other]) & (torch.maximum(ratios, 1 / ratios) <= MARGIN)
    of_real = torch.rand(len(one), generator=rng) < 0.5
    return (
        torch.where(of_real[:, None, None, None], drawn, pool.samples[subjects, other]) / 255,
        of_real,
        of_real | fair,
    )


def draw_places(pool: Pool, subjects: Tensor, rng: torch.Generator) -> tuple[Tensor, Tensor]:
    """Choose two generated pictures of each of `subjects` [B]: their indices int64 [B, 2], and `Batch.telling` [B].

    The pair is any telling one if the subject has one, else it is any pair.
    """
    rows, errors, styles = torch.arange(len(subjects)), pool.errors[subjects], pool.styles[subjects]
    ratios = errors[:, :, None] / errors[:, None]
    fits = (styles[:, :, None] == styles[:, None]) & (torch.maximum(ratios, 1 / ratios) > MARGIN)
    first = (fits.any(2) + torch.rand(errors.shape, generator=rng)).argmax(1)
    second = (fits[rows, first] + torch.rand(errors.shape, generator=rng)).argmax(1)
    return torch.stack([first, second], 1), fits[rows, first, second]


def _foreign(meanings: Sequence[set[int]]) -> Tensor:
    """The meanings of each row's prompt -> `Batch.foreign`."""
    count = len(meanings)
    others = [[meanings[row - shift % count] for row in range(count)] for shift in range(1, FOREIGN + 1)]
    return torch.tensor([[own.isdisjoint(other) for own, other in zip(meanings, row, strict=True)] for row in others])


def recognise(network: scorer.Network, classifier: nn.Module, seen: Tensor, batch: Batch) -> dict[str, Tensor]:
    """Losses of the second phase: `match`, and the classification of subjects. `seen`: features of `real` and `one`."""
    match = against_foreign(network, seen, network.judge(seen, batch.input_ids.repeat(2, 1)), batch)
    named = F.cross_entropy(classifier(scorer.pool(seen)), batch.subjects.repeat(2))
    return {"match": bradley_terry(network, match), "subject": named}


def detect(detector: nn.Module, seen: Tensor) -> dict[str, Tensor]:
    """Loss of telling drawings from generated pictures; `seen` holds the features of as many of both.

    `real` alone is hard, because its two pictures may also differ in style and tint: emoji-b was at chance after 800
    steps.
    """
    logits = detector(scorer.pool(seen)).squeeze(1)
    drawn = torch.tensor([1.0, 0.0]).repeat_interleave(len(seen) // 2)
    return {"drawn": F.binary_cross_entropy_with_logits(logits, drawn)}


def look(network: scorer.Network, pictures: Tensor) -> Tensor:
    """The network's features of pictures, in float32."""
    # This layout takes a quarter less time for convolutions in float32.
    with bfloat16(network.training):
        return network.look(pictures.contiguous(memory_format=torch.channels_last)).float()


def bradley_terry(network: scorer.Network, differences: Tensor) -> Tensor:
    """Mean loss of score differences, better minus worse; 0 if there are none, where `mean` would give NaN."""
    return F.softplus(-network.logits(differences)).sum() / max(1, len(differences))


def against_foreign(network: scorer.Network, seen: Tensor, own: Tensor, batch: Batch) -> Tensor:
    """`own` scores [2 B] minus scores of the same pictures, features `seen`, under prompts of other subjects."""
    shifts = range(1, FOREIGN + 1)
    others = [network.judge(seen, batch.input_ids.roll(shift, 0).repeat(2, 1)) for shift in shifts]
    return (own - torch.stack(others))[batch.foreign.repeat(1, 2)]


def compare(network: scorer.Network, seen: Tensor, batch: Batch) -> dict[str, Tensor]:
    """Kind of pair -> score differences, better minus worse; for `sample` only of telling pairs.

    Of `steady`, two jittered versions of one picture, and of `style`, two pictures that differ in their style, neither
    is better. `seen`: features of `Batch.pictures`.
    """
    ids = batch.input_ids
    real, one, other, degraded, again, twin = network.judge(seen, ids.repeat(6, 1)).chunk(6)
    nearer = torch.where(batch.errors[:, 0] < batch.errors[:, 1], one - other, other - one)
    return {
        "real": real - one,
        "match": against_foreign(network, seen[: 2 * len(ids)], torch.cat([real, one]), batch),
        "clean": torch.where(batch.of_real, real, one) - degraded,
        "sample": nearer[batch.telling],
        "steady": again - one,
        "style": (torch.where(batch.twin_of_real, real, one) - twin)[batch.fair],
    }


def prefer(network: scorer.Network, seen: Tensor, batch: Batch) -> dict[str, Tensor]:
    """Losses of the third phase: each kind of pair, and the effect of harmless changes and of styles."""
    differences = compare(network, seen, batch)
    losses = {kind: bradley_terry(network, differences[kind]) for kind in PAIRS}
    return losses | {kind: weight * indifference(network, differences[kind]) for kind, weight in NEUTRAL.items()}


def indifference(network: scorer.Network, differences: Tensor) -> Tensor:
    """Mean squared logit of score differences between pictures of which neither is better; 0 if there are none."""
    return network.logits(differences).square().sum() / max(1, len(differences))


def train(
    worker: Worker,
    folder: Path,
    name: str,
    pool: Pool,
    subjects: Subjects,
    tokenizer: CLIPTokenizer,
    schedule: Schedule,
) -> None:
    """Train the scorer `name`; leaves checkpoint.pt (weights under `network`) and metrics.jsonl in `folder`."""
    network = scorer.KINDS[name](tokenizer)
    classifier, detector = nn.Linear(2 * network.width, len(pool.real)), nn.Linear(2 * network.width, 1)
    modules = nn.ModuleDict({"network": network, "classifier": classifier, "detector": detector})
    trainer = Trainer(folder, modules.train(), schedule, worker)

    def loss(step: int, rng: torch.Generator) -> dict[str, Tensor]:
        batch = draw_batch(pool, subjects, tokenizer, schedule.batch // worker.world, rng)
        prefers, both = step >= DETECTION + RECOGNITION, 2 * len(batch.real)
        seen = look(network, batch.pictures if prefers else batch.pictures[:both])
        detected = detect(detector, seen[:both])
        if prefers:
            return prefer(network, seen, batch) | detected
        return detected if step < DETECTION else recognise(network, classifier, seen, batch) | detected

    trainer.run(loss, lambda step: None)


def load(folder: Path, name: str, tokenizer: CLIPTokenizer) -> scorer.Network:
    """The trained network (moving average of the weights), frozen."""
    network = scorer.KINDS[name](tokenizer)
    network.load_state_dict(averaged(folder, "network"))
    return network.eval().requires_grad_(False)


@torch.no_grad()
def standardise(network: scorer.Network, pool: Pool, labels: Sequence[str], tokenizer: CLIPTokenizer) -> None:
    """Set the `mean` and `std` of a CrossEncoder to those of its rewards for the generated pictures."""
    if isinstance(network, scorer.CrossEncoder):
        rows = score_all(network, pool.samples, labels, tokenizer)
        network.mean, network.std = rows.mean(), rows.std()


@torch.no_grad()
def score_all(network: scorer.Network, pictures: Tensor, labels: Sequence[str], tokenizer: CLIPTokenizer) -> Tensor:
    """Scores [subjects, K] of uint8 pictures [subjects, K, 3, H, W], each under its subject's label."""
    rows = zip(labels, pictures, strict=True)
    return torch.stack([network(row / 255, tokens(tokenizer, [label] * len(row))) for label, row in rows])
