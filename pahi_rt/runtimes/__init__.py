"""Runtimes: what runs a bundle's graph on this machine."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from pahi_rt.bundle import Bundle
from pahi_rt.errors import RuntimeUnavailable

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

NAMES = (
    "auto",
    "onnxruntime",
    "onnxruntime-cuda",
    "onnxruntime-tensorrt",
    "onnxruntime-tensorrt-rtx",
    "openvino",
    "openvino-bf16",
    "tensorrt",
    "tensorrt-rtx",
)


class Runtime(Protocol):
    """One graph, loaded and ready; `run` may be called from several threads."""

    def run(
        self, input_ids: NDArray[np.int64], noise: NDArray[np.float32], prior_strength: NDArray[np.float32]
    ) -> NDArray[np.uint8]:
        """input_ids [B, T], noise [B, C, h, w], prior_strength [B] in 0..1 -> pictures [B, H, W, 3].

        Strength 1 applies the prior that was loaded, 0 leaves the noise standard Gaussian.
        """
        ...

    def describe(self) -> dict[str, str | int]:
        """runtime, version, device, precision, threads (0: the runtime's own choice); why, if it was chosen for you."""
        ...


def load(
    bundle: Bundle,
    steps: int = 1,
    name: str = "auto",
    threads: int | None = None,
    prior: str | None = None,
    precision: str | None = None,
) -> Runtime:
    """Load the graph of `steps` denoising steps; a runtime that is asked for by name is never replaced.

    "auto" is the fastest that this machine and the bundle are ready for, as `pahi_rt.runtimes.automatic` says.
    `prior` is "hi", "pahi" or "gaussian"; None is the best that the bundle has. A graph that was loaded for "gaussian"
    must be run at strength 0. `precision` is one of the bundle's; None is its first.
    Raises RuntimeUnavailable for an unknown name or a missing package, BundleError for an unusable graph, or a prior
    or precision that the bundle lacks.
    """
    if name not in NAMES:
        raise RuntimeUnavailable(f"there is no runtime {name!r}", fix=f"use one of {', '.join(NAMES)}")
    options: dict[str, Any] = {"steps": steps, "prior": prior, "precision": precision, "threads": threads}
    if name == "auto":
        from pahi_rt.runtimes.automatic import AutomaticRuntime

        return AutomaticRuntime(bundle, lambda chosen: _open(bundle, chosen, options))
    return _open(bundle, name, options)


def _open(bundle: Bundle, name: str, options: dict[str, Any]) -> Runtime:
    if name in ("openvino", "openvino-bf16"):
        from pahi_rt.runtimes.openvino import BFLOAT16, OpenVinoRuntime

        return OpenVinoRuntime(bundle, is_bfloat16=name == BFLOAT16, **options)
    if name in ("tensorrt", "tensorrt-rtx"):
        from pahi_rt.runtimes.tensorrt import TensorRtRuntime

        return TensorRtRuntime(bundle, flavour=name, **options)
    from pahi_rt.runtimes.onnxruntime import OnnxRuntime

    return OnnxRuntime(bundle, flavour=name, **options)
