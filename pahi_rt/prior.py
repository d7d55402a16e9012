"""The choice of a prior, and of its strength. Both are settled before anything is loaded."""

from __future__ import annotations

from typing import SupportsFloat

from pahi_rt.bundle import Bundle
from pahi_rt.errors import RequestError
from pahi_rt.manifest import GAUSSIAN

FULL = 1.0
"""The strength at which a prior was trained."""


def choose_prior(bundle: Bundle, wanted: str | None = None) -> str:
    """The prior to draw with: `wanted` ("hi", "pahi" or "gaussian"), or the best that `bundle` has for None.

    Raises BundleError if the bundle lacks it.
    """
    if wanted is None:
        return next(iter(bundle.priors), GAUSSIAN)
    bundle.graphs(wanted)
    return wanted


def choose_strength(prior: str, wanted: float | None = None) -> float:
    """The strength to draw with: `wanted`, or for None all of a learned prior and 0 for "gaussian".

    Raises RequestError if it is not a number from 0 to 1, or if it is more than 0 without a prior.
    """
    if wanted is None:
        return 0.0 if prior == GAUSSIAN else FULL
    given: object = wanted
    if isinstance(given, bool) or not isinstance(given, SupportsFloat) or not 0 <= float(given) <= 1:
        raise RequestError(f"no prior strength: {str(wanted)[:40]}", fix="use a number from 0 to 1")
    if prior == GAUSSIAN and wanted > 0:
        fix = "leave the strength out, or draw with a bundle and a prior that it has"
        raise RequestError(f"a strength of {float(wanted):g} needs a prior, and there is none to apply", fix=fix)
    return float(wanted)
