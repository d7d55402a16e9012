"""Runtimes: what runs a bundle's graph on this machine."""

from __future__ import annotations

from pahi_rt.bundle import Bundle
from pahi_rt.choice import AUTO, Chosen, choose
from pahi_rt.runtimes.automatic import open_fastest
from pahi_rt.runtimes.base import Runtime
from pahi_rt.runtimes.table import NAMES, TABLE, by_rank, find

__all__ = ["AUTO", "NAMES", "TABLE", "Runtime", "load", "open_chosen"]


def load(
    bundle: Bundle,
    steps: int = 1,
    name: str = AUTO,
    threads: int | None = None,
    prior: str | None = None,
    precision: str | None = None,
) -> Runtime:
    """Load the graph for `steps` denoising steps. A runtime that is asked for by name is never replaced.

    "auto" is the runtime that should draw many pictures first, of those that are ready for the bundle. `prior` is
    "hi", "pahi" or "gaussian"; None is the best that the bundle has. A graph that was loaded for "gaussian" must be run
    at strength 0. `precision` is one of the bundle's; None is its first.
    Raises RuntimeUnavailable for an unknown name or a missing package, BundleError for an unusable graph, or for a
    prior or a precision that the bundle lacks.
    """
    return open_chosen(choose(bundle, steps=steps, runtime=name, threads=threads, prior=prior, precision=precision))


def open_chosen(chosen: Chosen) -> Runtime:
    """Load what `choose` has settled. Raises RuntimeUnavailable or BundleError."""
    if chosen.runtime == AUTO:
        return open_fastest(chosen, by_rank())
    return find(chosen.runtime).open(chosen)
