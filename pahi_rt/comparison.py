"""How a contender compares with the standard Gaussian under one scorer: the numbers that reports keep.

`pahi_rt.scorers.statistics` takes them of scores; s and s' are defined there.
"""

from __future__ import annotations

from dataclasses import dataclass

from pahi_rt.record import Record

CONFIDENCE = 0.95
MARGIN = 0.3
"""A win by a margin needs more than this many standard deviations of s between seeds of one prompt."""

Interval = tuple[float, float]


@dataclass(frozen=True)
class Comparison(Record):
    """A contender against the Gaussian under one scorer: means over N prompts and R seeds."""

    independent_win_rate_percent: float
    """Share of wins over all pairs of different seeds of one prompt: what two people with one picture each would see. A
    tie counts half."""
    independent_win_rate_std_percent: float
    """Its standard deviation between the contender's R seeds, each against the Gaussian's other seeds. It does not say
    how much the rate would vary over other prompts."""
    independent_win_rate_interval_percent: Interval | None
    """Its 95 % bootstrap interval over prompts, or over clusters of them. None for a single one, which says nothing
    about others."""
    same_noise_win_rate_percent: float
    """Share of wins over pairs of the same seed, which have the same noise. A tie counts half."""
    same_noise_win_rate_std_percent: float
    """Its standard deviation between the R seeds."""
    same_noise_win_rate_interval_percent: Interval | None
    """Its 95 % bootstrap interval; None as above."""
    margin_win_rate_percent: float
    """As the same-noise win rate, where a difference up to MARGIN standard deviations is a tie."""
    effect_size: float | None
    """Mean s' - s, in standard deviations of s between seeds of one prompt; None if s does not vary between seeds. The
    unit is this generator's spread under this scorer, so effects of other generators or scorers do not compare."""
    effect_size_interval: Interval | None
    """Its 95 % bootstrap interval; None as above."""
    mean_score: float
    """Mean s', in the scorer's unit."""
    gaussian_mean_score: float
    """Mean s, in the scorer's unit."""
    seed_std: float
    """Standard deviation of s between seeds of one prompt, in the scorer's unit: the root of the mean over prompts of
    the variance."""
