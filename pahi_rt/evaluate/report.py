"""The result of an evaluation, with the unit of every number."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar

from pahi_rt.comparison import CONFIDENCE, MARGIN, Comparison, Interval
from pahi_rt.errors import PahiError, ReportError
from pahi_rt.record import Record

DEFINITIONS = {
    "independent_win_rate_percent": "pairs of pictures of one prompt, of different noise, in which this one scores"
    " higher than the Gaussian's; a tie counts half",
    "same_noise_win_rate_percent": "likewise, pairs of the same noise; best of several has noise of its own",
    "*_win_rate_std_percent": "standard deviation between seeds of one training",
    "*_interval": f"{CONFIDENCE:.0%} bootstrap interval over meanings of prompts, in the same unit; null for one",
    "margin_win_rate_percent": f"as same_noise_win_rate_percent; a difference up to {MARGIN:g} seed_std is a tie",
    "effect_size": "mean score minus the Gaussian's, in seed_std; null if seed_std is 0. Comparable between rows of one"
    " group and scorer, not between generators, scorers or groups, whose seed_std differ",
    "mean_score": "in the scorer's unit",
    "gaussian_mean_score": "in the scorer's unit",
    "seed_std": "standard deviation of the Gaussian's scores between seeds of one prompt, in the scorer's unit",
    "kl_nats": "mean over prompts of the noise's KL to the standard Gaussian; null if it cannot be known",
    "diversity_ratio": "mean distance of two pictures of one prompt in diversity_encoder, by the Gaussian's; over"
    " several groups each weighs by its number of prompts",
    "sharpness_ratio": "mean of the Laplacian's total by the neighbouring pixels' total difference, by the Gaussian's",
    "pictures_drawn": "for each that is shown; the one that the judge scores best is. None is the Gaussian's that it is"
    " compared with",
}


@dataclass(frozen=True)
class Ratio(Record):
    """A mean divided by the Gaussian's mean."""

    value: float
    interval: Interval | None
    """95 % bootstrap interval over meanings of prompts."""


@dataclass(frozen=True)
class ScorerNote(Record):
    """A scorer of the report."""

    unit: str
    trained: bool
    """Whether a prior in the report was trained against it, so that its win rate is not independent evidence."""


@dataclass(frozen=True)
class Row(Record):
    """One contender."""

    name: str
    pictures_drawn: int
    """Pictures drawn for each one that counts: the cost of the row relative to the Gaussian."""
    kl_nats: float | None
    diversity_ratio: Ratio | None
    sharpness_ratio: Ratio | None
    scores: Mapping[str, Comparison]
    """Scorer -> how the row compares under it."""


@dataclass(frozen=True)
class Group(Record):
    """The rows for one group of prompts."""

    name: str
    prompts: int
    meanings: int
    """Number of distinct meanings, which the bootstrap resamples: prompts that mean the same count once."""
    diversity_prompts: int
    rows: tuple[Row, ...]
    """The standard Gaussian first."""


@dataclass(frozen=True)
class Report(Record):
    """Table 1 of one target: runs of one recipe, or a bundle."""

    read_error: ClassVar[type[PahiError]] = ReportError
    read_fix: ClassVar[str] = "write one: pahi-rt evaluate RUN... --json > REPORT.json"

    target: str
    steps: int
    """Sampling steps of a picture."""
    seeds: int
    diversity_seeds: int
    diversity_encoder: str
    pictures: str
    """Type of the pictures that were scored."""
    judge: str
    """The scorer that chose among several candidates."""
    scorers: Mapping[str, ScorerNote]
    groups: tuple[Group, ...]
    generator: str | None = None
    """The generator in the runs' recipe, or the bundle's name."""
    decoder: str | None = None
    """The decoder in the runs' recipe, if it replaces the generator's own."""
    variant: str | None = None
    """The variant of the generator's weights in the runs' recipe."""
    priors: Mapping[str, str] = field(default_factory=dict)
    """Row -> the file of its prior; empty for a bundle."""
    definitions: Mapping[str, str] = field(default_factory=DEFINITIONS.copy)
    """Key -> what the number is. Earlier versions defined some in another way."""
