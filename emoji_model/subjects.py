"""What the scorers learn to judge: every concept, and scenes of several ideas, so that they know both.

Scorers that had only seen single things would judge two cats by chance.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from itertools import count, islice

import torch

from emoji_model.captions import Caption
from emoji_model.painting import paint
from emoji_model.scenes import Author, Scene, Thing

COMPOSED = 150
"""Scenes of several ideas."""


class Subjects:
    """The scene of each concept, one after the other, and COMPOSED others that are not withheld.

    Args:
        drawings, worn: as `paint` takes them.
        composed: how many scenes of several ideas.
    """

    def __init__(
        self,
        author: Author,
        drawings: torch.Tensor,
        worn: Mapping[str, torch.Tensor],
        seed: int,
        composed: int = COMPOSED,
    ) -> None:
        self._author, self._drawings, self._worn = author, drawings, worn
        rng = random.Random(seed)
        drawn = (author.draw(rng) for _ in count())
        several = list(islice((scene for scene in drawn if scene.style is None), composed))
        self.scenes = [*(Scene((Thing(number),)) for number in range(len(author.concepts))), *several]
        self.labels = [
            *(concept.label for concept in author.concepts), *(author.caption(scene, rng) for scene in several)
        ]  # fmt: skip
        """A plain prompt for each."""

    def __len__(self) -> int:
        return len(self.scenes)

    def caption(self, subject: int, rng: random.Random) -> Caption:
        """A caption of the subject, and all subjects that it may mean: a scene's things are not foreign to it."""
        if subject < len(self._author.concepts):
            return self._author.captions.draw(subject, None, rng)
        scene = self.scenes[subject]
        return Caption(self._author.caption(scene, rng), (subject, *(thing.concept for thing in scene.things)))

    def paint(self, subject: int, grounds: torch.Tensor) -> torch.Tensor:
        """The subject in every style on the backgrounds `grounds` [K, 3]: float [K, styles, 3, H, W] in [0, 1]."""
        scene = self.scenes[subject]
        return torch.stack([paint(scene, self._drawings, self._worn, ground) for ground in grounds])
