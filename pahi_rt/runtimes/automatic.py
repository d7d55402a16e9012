"""Which runtime draws where none is asked for: a GPU that is ready for this bundle, else the CPU.

On CPUs it is ONNX Runtime, although OpenVINO is about as fast (docs/runtimes.md): it opens a graph sooner.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from pahi_rt.bundle import Bundle
from pahi_rt.errors import PahiError, RuntimeUnavailable
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
                check_there(bundle, name)
                self._chosen = open_runtime(name)
                break
            except PahiError as error:
                passed_over.append(f"{name}: {error.what}")
        else:
            self._chosen = open_runtime(ON_THE_CPU)
        self._why = "; ".join(passed_over) or "the fastest there is"

    def run(
        self, input_ids: NDArray[np.int64], noise: NDArray[np.float32], prior_strength: NDArray[np.float32]
    ) -> NDArray[np.uint8]:
        """As the runtime that was chosen."""
        return self._chosen.run(input_ids, noise, prior_strength)

    def describe(self) -> dict[str, str | int]:
        """As the runtime that was chosen; "why" says what keeps those from drawing that would be faster."""
        return {**self._chosen.describe(), "why": self._why}


def check_there(bundle: Bundle, name: str) -> None:
    """Raises RuntimeUnavailable for what a runtime obviously lacks. It looks for no GPU: most machines have none."""
    if name in MODULES:
        if not any(engine.runtime == name for engine in bundle.manifest.engines):
            raise RuntimeUnavailable("the bundle has no plan for it", fix=f"pahi-rt build BUNDLE --engine {name}")
    elif PROVIDERS[name].name not in require_onnxruntime().get_available_providers():
        raise RuntimeUnavailable("not in this ONNX Runtime", fix=PROVIDERS[name].install)
