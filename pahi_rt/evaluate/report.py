"""What an evaluation found, every number with its unit."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from pahi_rt.scorers.statistics import CONFIDENCE, MARGIN, Comparison, Interval

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
class Ratio:
    """To the Gaussian's."""

    value: float
    interval: Interval | None
    """95 % bootstrap interval over meanings of prompts."""


@dataclass(frozen=True)
class ScorerNote:
    unit: str
    trained: bool
    """A prior here was trained against it, so its win rate is no independent evidence."""


@dataclass(frozen=True)
class Row:
    name: str
    pictures_drawn: int
    """For each that is shown: what a row costs, in pictures of the Gaussian."""
    kl_nats: float | None
    diversity_ratio: Ratio | None
    sharpness_ratio: Ratio | None
    scores: Mapping[str, Comparison]
    """Scorer -> how the row compares under it."""


@dataclass(frozen=True)
class Group:
    name: str
    prompts: int
    meanings: int
    """What the bootstrap draws: prompts that mean the same count once."""
    diversity_prompts: int
    rows: tuple[Row, ...]
    """The standard Gaussian first."""


@dataclass(frozen=True)
class Report:
    target: str
    steps: int
    """Denoising steps of a picture."""
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
    """As the runs' recipe names it, or the bundle's name."""
    decoder: str | None = None
    """What the runs' recipe names in place of the generator's own."""
    variant: str | None = None
    """Of the generator's weights, as the runs' recipe names it."""
    priors: Mapping[str, str] = field(default_factory=dict)
    """Row -> the file that holds its prior, for runs."""

    def to_dict(self) -> dict[str, Any]:
        """Everything as JSON has it, with what each number means."""
        return {**asdict(self), "definitions": DEFINITIONS}
