"""Which prior a picture's noise is drawn from, and how much of it: settled before anything is loaded."""

from __future__ import annotations

from typing import SupportsFloat

from pahi_rt.bundle import Bundle
from pahi_rt.errors import NoiseError
from pahi_rt.manifest import GAUSSIAN

FULL = 1.0
"""The strength of a prior as it was trained."""


def choose_prior(bundle: Bundle, wanted: str | None = None) -> str:
    """`wanted`, "hi", "pahi" or "gaussian"; for None the best that `bundle` has. Raises BundleError if it lacks it."""
    if wanted is None:
        return next(iter(bundle.priors), GAUSSIAN)
    bundle.graphs(wanted)
    return wanted


def choose_strength(prior: str, wanted: float | None = None) -> float:
    """`wanted`; for None all of a learned prior, 0 for "gaussian".

    Raises NoiseError for what is no number from 0 to 1, and for more than 0 of no prior.
    """
    if wanted is None:
        return 0.0 if prior == GAUSSIAN else FULL
    given: object = wanted
    if isinstance(given, bool) or not isinstance(given, SupportsFloat) or not 0 <= float(given) <= 1:
        raise NoiseError(f"no prior strength: {str(wanted)[:40]}", fix="use a number from 0 to 1")
    if prior == GAUSSIAN and wanted > 0:
        fix = "leave the strength out, or draw with a bundle and a prior that it has"
        raise NoiseError(f"a strength of {float(wanted):g} needs a prior, and there is none to apply", fix=fix)
    return float(wanted)
