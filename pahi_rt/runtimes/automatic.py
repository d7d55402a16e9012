"""What draws if no runtime is asked for: a GPU that is ready for this bundle, else the CPU.

On CPUs this is ONNX Runtime. OpenVINO is about as fast (docs/runtimes.md), but takes longer to open a graph.
"""

from __future__ import annotations

from collections.abc import Sequence

from pahi_rt.choice import Chosen
from pahi_rt.errors import PahiError
from pahi_rt.runtimes.base import Runtime
from pahi_rt.runtimes.table import Entry


def open_fastest(chosen: Chosen, candidates: Sequence[Entry]) -> Runtime:
    """Open the first of `candidates` that can draw here, fastest first.

    "why" in its description says what keeps the faster ones from drawing. Raises what the last one raises.
    """
    *faster, last = candidates
    passed_over: list[str] = []
    for entry in faster:
        try:
            if entry.check is not None:
                entry.check(entry.name, chosen.bundle)
            return entry.open(chosen, _explain(passed_over))
        except PahiError as error:
            passed_over.append(f"{entry.name}: {error.what}")
    return last.open(chosen, _explain(passed_over))


def _explain(passed_over: Sequence[str]) -> str:
    return "; ".join(passed_over) or "the fastest there is"
