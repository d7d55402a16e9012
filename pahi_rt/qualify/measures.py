"""The measures of one row: its pictures against the reference's, of the same prompts and noise."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from pahi_rt.bench.scores import score
from pahi_rt.bundle import Bundle
from pahi_rt.errors import PahiError
from pahi_rt.evaluate.measurements import check_scores
from pahi_rt.evaluate.picture_metrics import RandomFeatures
from pahi_rt.judge import Judge
from pahi_rt.pictures import psnr, squared_errors, structural_similarities, within_one_level
from pahi_rt.qualification import EQUAL_DB, Measure
from pahi_rt.qualify.margins import BLANK, OTHER, OTHER_PICTURE_DB, SCORES, Margin, Standard
from pahi_rt.qualify.pairs import Pairs
from pahi_rt.qualify.verdicts import judge, judge_against, judge_count, judge_mean, judge_share
from pahi_rt.scorers import Scorer, load_scorer

_AT_ONCE = 16
"""Pictures that are altered, scored or told apart at once: copies of all of them would need gigabytes."""

Pictures = NDArray[np.uint8]
"""[N, H, W, 3]"""
Scoring = Callable[[Pictures, Sequence[str]], Tensor]
"""Pictures and their prompts -> scores [N], in the scorer's own unit. Raises PahiError."""


class Jury:
    """What measures pictures, loaded once: random features, the bundle's own scorers, and others that are there.

    A scorer of the bundle stands in for one of the same name that needs PyTorch. Raises PahiError if it is damaged.
    """

    def __init__(self, specs: Sequence[str], bundle: Bundle) -> None:
        self.scorers: dict[str, Scoring] = {
            name: partial(_score_in_bundle, Judge.load(bundle, name)) for name in bundle.scorers
        }
        self.missing: dict[str, str] = {}
        """Measure -> why it cannot be taken."""
        self._encode = RandomFeatures()
        for spec in (spec for spec in specs if spec not in self.scorers):
            try:
                self.scorers[spec] = partial(_score, load_scorer(spec))
            except PahiError as error:
                self.missing[score_name(spec)] = error.what

    @torch.no_grad()
    def distances(self, drawn: Pictures, expected: Pictures) -> NDArray[np.float64]:
        """How different two pictures look [N]: the Euclidean distance of their features."""
        apart = (self._features(drawn[part]) - self._features(expected[part]) for part in _parts(len(drawn)))
        return np.concatenate([difference.double().norm(dim=1).numpy() for difference in apart])

    def _features(self, pictures: Pictures) -> Tensor:
        return self._encode(torch.from_numpy(pictures).permute(0, 3, 1, 2) / 255)

    def scores(self, pictures: Pictures, prompts: Sequence[str]) -> dict[str, Tensor]:
        """Scorer -> scores [N], in its own unit. A scorer that cannot score these pictures is left out from now on."""
        found: dict[str, Tensor] = {}
        for spec, scoring in list(self.scorers.items()):
            try:
                found[spec] = check_scores(spec, scoring(pictures, prompts), len(prompts))
            except PahiError as error:
                self.missing[score_name(spec)] = error.what
                del self.scorers[spec]
        return found


@dataclass(frozen=True)
class Yardstick:
    """What a standard's yardstick does to each of the reference's pictures [N]."""

    ssim: NDArray[np.float64]
    distance: NDArray[np.float64]
    """Euclidean distance of the features to those of the unaltered picture."""


@dataclass
class Expected:
    """The reference's pictures, measured once for all rows that are compared with them."""

    pictures: Pictures
    scores: Mapping[str, Tensor]
    _yardsticks: dict[bool, Yardstick] = field(default_factory=dict)
    """Whether a standard is exact -> its yardstick."""

    @classmethod
    def of(cls, pictures: Pictures, pairs: Pairs, jury: Jury) -> Expected:
        """Measure the reference's pictures."""
        return cls(pictures, jury.scores(pictures, pairs.prompts))

    def yardstick(self, standard: Standard, jury: Jury) -> Yardstick:
        """The standard's yardstick, applied when a row first asks for it."""
        if standard.is_exact not in self._yardsticks:
            ssims, distances = [], []
            for part in _parts(len(self.pictures)):
                pictures = self.pictures[part]
                altered = standard.alter(pictures, part.start)
                ssims.append(structural_similarities(altered, pictures))
                distances.append(jury.distances(altered, pictures))
            self._yardsticks[standard.is_exact] = Yardstick(np.concatenate(ssims), np.concatenate(distances))
        return self._yardsticks[standard.is_exact]


def score_name(spec: str) -> str:
    """The name of a scorer's measure."""
    return f"score_{spec}_change_sd"


def measure(drawn: Pictures, expected: Expected, pairs: Pairs, jury: Jury, standard: Standard) -> dict[str, Measure]:
    """All measures of a row, by name; the unit is the name's end."""
    reference, clusters = expected.pictures, pairs.clusters
    errors = squared_errors(drawn, reference)
    yardstick = expected.yardstick(standard, jury)
    measures = {
        "levels_within_one_share": judge_mean(within_one_level(drawn, reference), clusters, standard.levels),
        "psnr_db": judge_mean(errors, clusters, standard.psnr, _psnr),
        "worst_psnr_db": judge(
            _decibels(errors.max()), None, Margin(None, "not judged alone: one picture has no interval")
        ),
        "other_pictures_share": judge_share(errors > 10 ** (-OTHER_PICTURE_DB / 10), clusters, OTHER),
        "ssim": judge_against(
            structural_similarities(drawn, reference),
            yardstick.ssim,
            clusters,
            standard.yardstick,
            is_floor=True,
        ),
        "perceptual_distance": judge_against(
            jury.distances(drawn, reference),
            yardstick.distance,
            clusters,
            standard.yardstick,
            is_floor=False,
        ),
        "blank_pictures": judge_count(_count_blank(drawn, reference), BLANK),
    }
    for spec, own in jury.scores(drawn, pairs.prompts).items():
        spread = expected.scores[spec].double().std()
        if spread > 0:
            change = (own - expected.scores[spec]).double() / spread
            measures[score_name(spec)] = judge_mean(change.numpy(), clusters, SCORES)
    return measures


def picture_psnr(drawn: Pictures, expected: Pictures) -> list[float]:
    """PSNR of each picture in dB."""
    return [_decibels(error) for error in squared_errors(drawn, expected)]


def _score(scorer: Scorer, pictures: Pictures, prompts: Sequence[str]) -> Tensor:
    return torch.cat([score(scorer, pictures[part], prompts[part]) for part in _parts(len(pictures))])


def _score_in_bundle(judge: Judge, pictures: Pictures, prompts: Sequence[str]) -> Tensor:
    scores: list[float] = []
    for part in _parts(len(pictures)):
        scores += judge.score([Image.fromarray(picture) for picture in pictures[part]], prompts[part])
    return torch.tensor(scores)


def _parts(count: int) -> list[slice]:
    """The pictures in parts, for what copies them."""
    return [slice(at, at + _AT_ONCE) for at in range(0, count, _AT_ONCE)]


def _psnr(means: Tensor) -> Tensor:
    """Mean squared errors [..., 1] -> dB [...]."""
    return (-10 * means[..., 0].log10()).clamp(max=EQUAL_DB)


def _decibels(error: float) -> float:
    return min(EQUAL_DB, psnr(float(error)))


def _count_blank(drawn: Pictures, expected: Pictures) -> int:
    """Pictures of a single colour, as NaN leaves them, where the reference has several."""
    return int((_is_plain(drawn) & ~_is_plain(expected)).sum())


def _is_plain(pictures: Pictures) -> NDArray[np.bool_]:
    return np.array([(picture == picture[:1, :1]).all() for picture in pictures])
