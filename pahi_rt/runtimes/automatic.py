"""Which runtime draws where none is asked for: a GPU that is ready for this bundle, else the CPU.

On CPUs it is ONNX Runtime, although OpenVINO is about as fast (docs/runtimes.md): it opens a graph sooner.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from pahi_rt.bundle import Bundle
from pahi_rt.errors import PahiError
from pahi_rt.runtimes.onnxruntime import PROVIDERS, require_onnxruntime
from pahi_rt.runtimes.tensorrt import MODULES

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from pahi_rt.runtimes import Runtime

ON_A_GPU = (*MODULES, "onnxruntime-cuda")
"""Fastest first."""
ON_THE_CPU = "onnxruntime"


class AutomaticRuntime:
    """The first runtime that can draw here, and why it is this one.

    `open_runtime` loads the graph in the runtime of a name. Raises what it does for the CPU's.
    """

    def __init__(self, bundle: Bundle, open_runtime: Callable[[str], Runtime]) -> None:
        passed_over = []
        for name in ON_A_GPU:
            try:
                missing = find_missing(bundle, name)
                chosen = None if missing else open_runtime(name)
            except PahiError as error:
                chosen, missing = None, error.what
            if chosen is not None:
                break
            passed_over.append(f"{name}: {missing}")
        self._chosen = chosen or open_runtime(ON_THE_CPU)
        self._why = "; ".join(passed_over) or "the fastest there is"

    def run(
        self, input_ids: NDArray[np.int64], noise: NDArray[np.float32], prior_strength: NDArray[np.float32]
    ) -> NDArray[np.uint8]:
        """As the runtime that was chosen."""
        return self._chosen.run(input_ids, noise, prior_strength)

    def describe(self) -> dict[str, str | int]:
        """As the runtime that was chosen; "why" says what keeps those from drawing that would be faster."""
        return {**self._chosen.describe(), "why": self._why}


def find_missing(bundle: Bundle, name: str) -> str | None:
    """What a runtime obviously lacks, found without a look for a GPU: most machines have none."""
    if name in MODULES:
        is_there = any(engine.runtime == name for engine in bundle.manifest.engines)
        return None if is_there else "the bundle has no plan for it"
    is_there = PROVIDERS[name].name in require_onnxruntime().get_available_providers()
    return None if is_there else "not in this ONNX Runtime"
