"""What all runtimes share: inputs by name, and the check of what was drawn."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from pahi_rt.choice import Chosen
from pahi_rt.errors import BundleError
from pahi_rt.manifest import STRENGTH, ImageSpec

Feeds = dict[str, NDArray[Any]]
"""Name of an input -> its rows."""
Description = dict[str, str | int]


class Runtime(Protocol):
    """One graph, loaded and ready; `run` may be called from several threads."""

    def run(
        self, input_ids: NDArray[np.int64], noise: NDArray[np.float32], prior_strength: NDArray[np.float32]
    ) -> NDArray[np.uint8]:
        """input_ids [B, T], noise [B, C, h, w], prior_strength [B] in 0..1 -> pictures [B, H, W, 3].

        Strength 1 applies the prior that was loaded; 0 leaves the noise standard Gaussian.
        """
        ...

    def describe(self) -> Description:
        """runtime, version, device, precision, threads (0: the runtime decides); why, if `auto` chose the runtime."""
        ...


class GraphRuntime(ABC):
    """A runtime of this package. It loads `chosen.graph` when it is made, and defines `draw`."""

    def __init__(self, chosen: Chosen, *, version: str, device: str) -> None:
        self._graph = chosen.graph
        self._image = chosen.bundle.manifest.image
        self._description: Description = {
            "runtime": chosen.runtime,
            "version": version,
            "device": device,
            "precision": chosen.graph.precision,
            "threads": chosen.threads or 0,
        }
        if chosen.why is not None:
            self._description["why"] = chosen.why

    @abstractmethod
    def draw(self, feeds: Feeds) -> object:
        """Run the graph. The pictures must be the caller's own: the next call may not overwrite them."""

    def run(
        self, input_ids: NDArray[np.int64], noise: NDArray[np.float32], prior_strength: NDArray[np.float32]
    ) -> NDArray[np.uint8]:
        """input_ids [B, T], noise [B, C, h, w], prior_strength [B] in 0..1 -> pictures [B, H, W, 3].

        Raises RuntimeUnavailable if the runtime fails, BundleError if the graph draws something else.
        """
        given: Feeds = {"input_ids": input_ids, "noise": noise, STRENGTH: prior_strength}
        # A graph without a prior does not take prior_strength.
        pictures = self.draw({spec.name: given[spec.name] for spec in self._graph.inputs})
        return check_pictures(pictures, len(noise), self._image)

    def describe(self) -> Description:
        """runtime, version, device, precision, threads (0: the runtime decides); why, if `auto` chose the runtime."""
        return dict(self._description)


def check_pictures(found: object, count: int, image: ImageSpec) -> NDArray[np.uint8]:
    """`found`, if it is `count` pictures, uint8 [count, H, W, 3]: a stranger's graph may give anything.

    Raises BundleError that says what it is instead.
    """
    expected = (count, image.height, image.width, 3)
    if isinstance(found, np.ndarray) and found.dtype == np.uint8 and found.shape == expected:
        return found
    actual = f"{found.dtype} {list(found.shape)}" if isinstance(found, np.ndarray) else type(found).__name__
    what = f"the graph draws {actual}, where its manifest says uint8 {list(expected)}"
    raise BundleError(what, fix="export the bundle again, or get a fresh copy of it")
