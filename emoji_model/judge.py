"""Stage `judge`: a classifier that says what a picture shows. It learns from drawings alone, never from the generator.

Colours are not its business: of a red heart in red it cannot tell whether red was asked for (composition.py).

It looks at 64 x 64 pixels: a whole picture at half size, or the place of one thing among two or three at full size.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn
from torch.nn import functional as F

from emoji_model import coupling
from emoji_model.painting import HALF, ROWS, accessories, paint
from emoji_model.scenes import WORN, Author, Scene
from emoji_model.trainer import Schedule, Trainer, Worker, averaged

SCHEDULE = Schedule(
    steps=1400, batch=96, learning_rate=1.5e-3, warmup=100, decay=0.5, sample_every=10**9, bfloat16=True
)
WIDTHS = (32, 64, 128, 192)
WORN_WORDS = list(WORN)
NONE = -1
"""A question that has no answer: the concept of a whole picture with several things."""


@dataclass(frozen=True)
class Answers:
    """What B views show: logits [B, n] of the judge, or the right answers [B], NONE where there is none."""

    concept: torch.Tensor
    number: torch.Tensor
    """1, 2 or 3 things, less 1."""
    worn: torch.Tensor
    """What is worn; the last one is nothing."""


class Judge(nn.Module):
    """Views [B, 3, 64, 64] in [0, 1] -> Answers."""

    def __init__(self, concepts: int) -> None:
        super().__init__()
        self.sizes = (concepts, 3, len(WORN) + 1)
        layers: list[nn.Module] = [nn.Conv2d(3, WIDTHS[0], 3, padding=1)]
        for narrow, wide in zip(WIDTHS, (*WIDTHS[1:], WIDTHS[-1]), strict=True):
            layers += [_Block(narrow), nn.GroupNorm(8, narrow), nn.SiLU(), nn.Conv2d(narrow, wide, 3, 2, 1)]
        self.body = nn.Sequential(*layers, _Block(WIDTHS[-1]), nn.GroupNorm(8, WIDTHS[-1]), nn.SiLU(), nn.Flatten())
        self.head = nn.Sequential(nn.Dropout(0.1), nn.Linear(WIDTHS[-1] * 16, sum(self.sizes)))

    def forward(self, views: torch.Tensor) -> Answers:
        return Answers(*self.head(self.body(views * 2 - 1)).split(self.sizes, 1))


class _Block(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.GroupNorm(8, width), nn.SiLU(), nn.Conv2d(width, width, 3, padding=1),
            nn.GroupNorm(8, width), nn.SiLU(), nn.Conv2d(width, width, 3, padding=1),
        )  # fmt: skip

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        return features + self.layers(features)


def whole(pictures: torch.Tensor) -> torch.Tensor:
    """Whole pictures [B, 3, 128, 128] as views [B, 3, 64, 64]."""
    return F.avg_pool2d(pictures, 2)


def places(pictures: torch.Tensor, number: int) -> list[torch.Tensor]:
    """Views [B, 3, 64, 64] of the places of `number` things in pictures [B, 3, 128, 128]."""
    if number == 1:
        return [whole(pictures)]
    return [pictures[:, :, top : top + HALF, left : left + HALF] for left, top, _ in ROWS[number]]


def views_of(scene: Scene, pictures: torch.Tensor) -> tuple[torch.Tensor, Answers]:
    """The views of a painted scene [styles, 3, 128, 128]: the whole, and each place of several things."""
    things = scene.shown
    views = [whole(pictures), *(places(pictures, len(things)) if len(things) > 1 else [])]
    shown = [(things[0] if len(things) == 1 else None, len(things)), *((t, 1) for t in things[: len(views) - 1])]
    rows = [
        (
            thing.concept if thing else NONE,
            number - 1 if view == 0 else NONE,
            WORN_WORDS.index(scene.worn) if scene.worn else len(WORN),
        )
        for view, (thing, number) in enumerate(shown)
    ]
    answers = torch.tensor(rows).repeat_interleave(len(pictures), 0)
    return torch.cat(views), Answers(*answers.unbind(1))


def soften(views: torch.Tensor, rng: torch.Generator) -> torch.Tensor:
    """Views blurred, moved and made noisy at random, so that the judge does not insist on crisp edges."""
    blurred = F.avg_pool2d(F.pad(views, (1, 1, 1, 1), mode="replicate"), 3, 1)
    share = torch.rand(len(views), 1, 1, 1, generator=rng)
    views = views.lerp(blurred, share)
    views = views + 0.05 * torch.rand(len(views), 1, 1, 1, generator=rng) * torch.randn(views.shape, generator=rng)
    x, y = torch.randint(-2, 3, (2,), generator=rng).tolist()
    return views.roll((x, y), (3, 2)).clamp(0, 1)


def train(worker: Worker, folder: Path, author: Author, pictures: torch.Tensor, schedule: Schedule) -> None:
    """Train on scenes painted from uint8 drawings [concepts, styles, 4, 128, 128]; leaves checkpoint.pt in `folder`."""
    judge = Judge(len(author.concepts)).train()
    trainer = Trainer(folder, nn.ModuleDict({"judge": judge}), schedule, worker)
    worn = accessories(author.concepts, pictures)

    def draw(rng: torch.Generator, python_rng: random.Random) -> tuple[torch.Tensor, Answers]:
        tint = coupling.background(torch.randn(1, coupling.COUNT, generator=rng))[0]
        scene = author.propose(python_rng)
        if python_rng.random() < 0.4:
            scene = Scene((author.thing(python_rng),))
        return views_of(scene, paint(scene, pictures, worn, tint))

    def loss(step: int, rng: torch.Generator) -> dict[str, torch.Tensor]:
        python_rng = random.Random(int(torch.randint(2**62, (), generator=rng)))
        views, answers = zip(*(draw(rng, python_rng) for _ in range(schedule.batch // worker.world // 6)), strict=True)
        logits = judge(soften(torch.cat(views), rng).contiguous(memory_format=torch.channels_last))
        right = {name: torch.cat([getattr(answer, name) for answer in answers]) for name in vars(logits)}
        return {
            name: F.cross_entropy(getattr(logits, name), right[name], ignore_index=NONE, label_smoothing=0.02)
            for name in right
        }

    trainer.run(loss, lambda step: None)


def load(folder: Path, concepts: int) -> Judge:
    """The trained judge (moving average of the weights)."""
    judge = Judge(concepts)
    judge.load_state_dict(averaged(folder, "judge"))
    return judge.eval().requires_grad_(False)
