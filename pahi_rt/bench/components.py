"""Times each component of a graph alone, on what the components before it hand on."""

from __future__ import annotations

import time
from typing import Any

from pahi_rt.bench.derived import Inputs, Part, open_components
from pahi_rt.bench.reports.report import Spread
from pahi_rt.bench.timing import spread
from pahi_rt.bundle import Bundle
from pahi_rt.manifest import Graph


def time_components(
    bundle: Bundle, graph: Graph, runtime: str, pictures: int, warm_up: int = 1, untimed: int = 0
) -> dict[str, Spread]:
    """Component -> milliseconds; `untimed` as for `take_turns`. Files are written into the bundle's folder."""
    parts, inputs = open_components(bundle, graph, runtime), Inputs(bundle)
    taken: dict[str, list[float]] = {name: [] for name in parts}
    for number in range(-warm_up, pictures):
        for name, took in _draw(parts, inputs(number), untimed).items():
            taken[name] += [took] if number >= 0 else []
    return {name: spread(values) for name, values in taken.items()}


def _draw(parts: dict[str, Part], known: dict[str, Any], untimed: int) -> dict[str, float]:
    """Milliseconds of each part."""
    taken = {}
    for name, part in parts.items():
        for _ in range(untimed):
            part(known)
        started = time.perf_counter()
        results = part(known)
        taken[name] = (time.perf_counter() - started) * 1000
        known |= results
    return taken
