"""What noise priors can gain at most with one generator and its scorers, with the unit of every number."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from pahi_rt.comparison import CONFIDENCE, Interval

DEFINITIONS = {
    "interval": f"{CONFIDENCE:.0%} bootstrap interval over meanings of prompts; null for one, and without an end",
    "seed_std": "standard deviation of the scores between pictures of one prompt, in the scorer's unit",
    "odd_share": "share of that variance that changes sign with the noise; nothing else can be linear in it",
    "linear_share": "share that is linear in the noise, with coefficients of each prompt's own: E|a|^2",
    "linear_share_by_gradients": "the same from d score / d noise; another value means that the score has jumps",
    "shared_share": "share that is linear with the same coefficients for all prompts: |E a|^2",
    "spread_share": "share that depends on the squares of the noise, which sigma can use: E|b|^2",
    "shared_spread_share": "the same with one b for all prompts",
    "ceiling": "effect in seed_std that a prior's mean can have at one nat, to first order; it grows with the root of"
    " the nats. PAHI: sqrt(2 linear_share), HI: sqrt(2 shared_share), from 0 to sqrt(2 odd_share)",
    "reached": "the same effect for a mean that was fitted to the clipped gradients (to the score function's if there"
    " are none), on prompts of other meaning: PAHI by ridge regression on the embedding, HI by the mean. A training,"
    " which sees more prompts and noises, can reach more",
    "score_correlation": "of two scorers between pictures of one prompt",
    "linear_cosine": "of two scorers' coefficients a: what of the linear share they agree on",
    "ceiling_under": "effect under `under` of the mean that is best under `of`, at one nat",
    "samples": "after which the noise of a mean gradient is as large as its signal, along the direction a that raises"
    " the score: `pahi` of one prompt, `hi` of all prompts together. null if there may be no signal: no end to the"
    " interval",
    "score function": "a sample is a pair of opposite noises: two pictures, no backward pass",
    "clipped": "pathwise, each sample's d score / d noise cut to the median length",
}


@dataclass(frozen=True)
class Estimate:
    """A number and how far it may be off."""

    value: float
    interval: Interval | None
    """95 % bootstrap interval over meanings of prompts; None if there are fewer than two, and without an end."""


@dataclass(frozen=True)
class Pair:
    """A number for each kind of prior."""

    pahi: Estimate | None
    hi: Estimate | None


@dataclass(frozen=True)
class ScorerCeiling:
    """What one scorer says. Shares are of the variance between pictures of one prompt."""

    unit: str
    seed_std: float
    odd_share: Estimate | None
    linear_share: Estimate | None
    linear_share_by_gradients: Estimate | None
    shared_share: Estimate | None
    spread_share: Estimate | None
    shared_spread_share: Estimate | None
    ceiling: Pair
    reached: Pair
    samples: Mapping[str, Pair]
    """Kind of gradient -> samples that it needs; only the score function's if a scorer cannot be differentiated."""


@dataclass(frozen=True)
class Agreement:
    """Two scorers compared."""

    of: str
    under: str
    score_correlation: Estimate | None
    linear_cosine: Estimate | None
    ceiling_under: Estimate | None


@dataclass(frozen=True)
class CeilingReport:
    """The ceiling of one generator and its scorers."""

    command: str
    """What to type for the same report."""
    target: str
    generator: str
    decoder: str | None
    variant: str | None
    steps: int
    """Sampling steps of a picture."""
    prompts: int
    meanings: int
    pictures: int
    """Pictures of each prompt: half from noises, half from their opposites."""
    gradients: int
    """Noises of each prompt at which the scores were differentiated."""
    noise_values: int
    """Values of one noise."""
    training_prompts: int
    training_samples: int
    """Samples of the longest training by the recipe: its steps times its batch."""
    scorers: Mapping[str, ScorerCeiling]
    agreements: tuple[Agreement, ...]
    seconds: float
    hardware: str

    def to_dict(self) -> dict[str, Any]:
        """The report as JSON, with the definition of each number."""
        return {**asdict(self), "definitions": DEFINITIONS}
