"""The report of `python -m emoji_model package`: how well a generator draws what it was trained on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from pahi_rt.errors import PahiError, ReportError
from pahi_rt.record import Record


@dataclass(frozen=True)
class Recognition(Record):
    """What is recognised in pictures without a prior. Shares are of 1."""

    concept_latent: float
    """Share whose nearest training picture by latents is of the right concept."""
    style_latent: float
    """Share that has the style that the noise asks for, by latents."""
    concept_pixel: float
    style_pixel: float
    sharpness: float
    """Variance of the Laplacian, of the drawings' on the same tint."""
    psnr_db: float
    """To the drawing that was asked for."""


@dataclass(frozen=True)
class ExplainedVariance(Record):
    """Share of the variance between pictures of one prompt that the noise explains."""

    style: float
    tint: float
    all: float


@dataclass(frozen=True)
class Composition(Record):
    """Shares of right pictures of composed captions that no training saw, judged by a classifier of drawings, and for
    colours by the nearest drawing.

    Each table has the idea (`thing`, `colour`, `background`, `number`, `worn`, `all`) or `all KIND` -> its share.
    """

    prompts: int
    seeds: int
    one_step: Mapping[str, float]
    two_steps: Mapping[str, float]
    drawings: Mapping[str, float]
    """Shares for the drawings themselves, through the autoencoder: an upper limit for every generator."""


@dataclass(frozen=True)
class GeneratorReport(Record):
    """Report of `python -m emoji_model package`."""

    read_error: ClassVar[type[PahiError]] = ReportError
    read_fix: ClassVar[str] = "name another report"

    command: str
    """The command line that measured it."""
    hardware: str
    torch: str
    """Its version."""
    concepts: int
    styles: tuple[str, ...]
    seeds_per_concept: int
    noises: int
    parameters: Mapping[str, int]
    """Part of the generator -> number of its parameters."""
    autoencoder_psnr_db: float
    one_step: Recognition
    two_steps: Recognition
    explained_variance: ExplainedVariance
    composition: Composition
