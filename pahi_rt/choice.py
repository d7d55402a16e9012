"""The choice of a graph: all that is settled, once, before a runtime is opened."""

from __future__ import annotations

from dataclasses import dataclass

from pahi_rt.bundle import Bundle
from pahi_rt.manifest import Graph
from pahi_rt.prior import choose_prior

AUTO = "auto"
"""Instead of a runtime's name: the one that should draw the pictures first, of all that are ready for the bundle."""
MANY = 1000
"""The pictures that a program is expected to draw if it does not say how many."""


@dataclass(frozen=True)
class Chosen:
    """What is drawn with; `choose` makes it, and a runtime is opened with it."""

    bundle: Bundle
    prior: str
    graph: Graph
    threads: int | None
    """CPU cores that one picture may use; None leaves it to the runtime. A plan on a GPU uses none."""
    runtime: str
    """A name of the table, or "auto" until one is picked."""
    why: str | None = None
    """Why "auto" picked this runtime; None if it was asked for by name."""
    pictures: int = MANY
    """About how many pictures are to be drawn: "auto" weighs the time to load a runtime against it."""


def choose(
    bundle: Bundle,
    *,
    steps: int = 1,
    runtime: str = AUTO,
    threads: int | None = None,
    prior: str | None = None,
    precision: str | None = None,
    pictures: int = MANY,
) -> Chosen:
    """Settle the prior, its graph for `steps` denoising steps, and the precision; None is the bundle's default.

    Raises BundleError for what the bundle lacks.
    """
    kind = choose_prior(bundle, prior)
    return Chosen(bundle, kind, bundle.graph(steps, kind, precision), threads, runtime, pictures=pictures)
