"""What drawing with a runtime costs on this machine: load it, draw the first picture, and then each further one.

What was measured here, by `pahi-rt doctor` or by `pahi-rt generate`, is remembered in the user's cache. Until then an
estimate stands for it, by the floating-point operations of a picture. It is rough: it only has to tell a model that
takes milliseconds from one that takes seconds.
"""

from __future__ import annotations

import hashlib
import math
import platform
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pahi_rt.cache import cache_folder, make_private
from pahi_rt.choice import Chosen
from pahi_rt.errors import PahiError
from pahi_rt.files import write_whole
from pahi_rt.listed import read_bounded
from pahi_rt.machine import cpu_identity, gpu_identity, usable_cores
from pahi_rt.manifest_file import write_json
from pahi_rt.record import Record, parse_json
from pahi_rt.runtimes.table import find

Kind = Literal["cpu", "nvidia", "plan"]

_MOST = 4096
"""Bytes of a file with a measurement."""
_BYTES_OF_A_WEIGHT = {"fp32": 4, "w16": 2, "fp16": 2, "w8": 1, "int8": 1}
_SHARE_OF_POSITIONS = 0.1
"""Weights of a UNet are used at every position of their level, and most lie where there are few: for SD-Turbo's
0.93 TFLOP (bench/results/nvidia-h200) this gives 1.0."""


@dataclass(frozen=True)
class Measured(Record):
    """What was seen of a cost, in seconds."""

    load_s: float
    """Until a runtime is loaded."""
    first_s: float
    """For the first picture."""
    picture_s: float | None
    """For each picture after it; None if none was drawn. The first one's time has the start of a GPU in it."""

    def filled(self, estimated: Cost) -> Cost:
        """The whole cost, with what should be true where nothing was measured."""
        further = min(self.first_s, estimated.picture_s) if self.picture_s is None else self.picture_s
        return Cost(self.load_s, self.first_s, further)


@dataclass(frozen=True)
class Cost(Measured):
    """Seconds."""

    picture_s: float

    def total(self, pictures: int) -> float:
        """Seconds until the last of `pictures` is drawn."""
        return self.load_s + self.first_s + (pictures - 1) * self.picture_s


@dataclass(frozen=True)
class Typical:
    """What a kind of runtime costs before it has been measured. The times on a GPU are an NVIDIA H200's."""

    load_s: float
    """Besides reading the weights."""
    first_s: float
    """What the first picture takes longer than others."""
    least_s: float
    """What a picture takes at least."""
    flops_per_s: float


READ_BYTES_PER_S = 1e9
TYPICAL: dict[Kind, Typical] = {
    "cpu": Typical(load_s=0.2, first_s=0.0, least_s=0.002, flops_per_s=25e9),  # of each core
    "nvidia": Typical(load_s=0.84, first_s=1.0, least_s=0.008, flops_per_s=50e12),
    "plan": Typical(load_s=0.84, first_s=0.1, least_s=0.004, flops_per_s=100e12),
}


def estimate(chosen: Chosen, kind: Kind, cores: int | None = None) -> Cost:
    """What drawing with the chosen graph should cost; `cores` are those that this process may use if None."""
    typical, size = TYPICAL[kind], chosen.bundle.weights_size(chosen.graph)
    processors = (chosen.threads or cores or usable_cores()) if kind == "cpu" else 1
    picture_s = max(typical.least_s, flops(chosen) / (typical.flops_per_s * processors))
    return Cost(typical.load_s + size / READ_BYTES_PER_S, typical.first_s + picture_s, picture_s)


def flops(chosen: Chosen) -> float:
    """About how many floating-point operations a picture takes; a multiply-add counts as two."""
    _, height, width = chosen.bundle.manifest.image.latent_shape
    weights = chosen.bundle.weights_size(chosen.graph) / _BYTES_OF_A_WEIGHT[chosen.graph.precision]
    return 2 * weights * height * width * _SHARE_OF_POSITIONS * chosen.graph.steps


def recall(chosen: Chosen, runtime: str) -> Measured | None:
    """What was measured here with this graph; None if nothing was, or if it cannot be read."""
    with suppress(PahiError, OSError):
        path = _path(chosen, runtime)
        known = Measured.from_dict(parse_json(read_bounded(path, _MOST, ""), str(path)), str(path))
        if all(value is None or (math.isfinite(value) and value >= 0) for value in _times(known)):
            return known
    return None


def remember(chosen: Chosen, runtime: str, found: Measured, *, renew: bool = False) -> None:
    """Keep what was measured. A slower time than one that is known was a busy machine's, unless this is to `renew`.

    If the cache cannot be written, nothing is kept.
    """
    known = None if renew else recall(chosen, runtime)
    if known is not None:
        if not any(map(_is_gain, _times(known), _times(found))):
            return
        picture_s = _least(known.picture_s, found.picture_s)
        found = Measured(min(known.load_s, found.load_s), min(known.first_s, found.first_s), picture_s)
    with suppress(PahiError, OSError):
        path = _path(chosen, runtime)
        make_private(path.parent)
        write_whole(path, write_json(found))


def _times(cost: Measured) -> tuple[float | None, ...]:
    return cost.load_s, cost.first_s, cost.picture_s


def _is_gain(known: float | None, found: float | None) -> bool:
    """Whether a time is worth a file, which is not written at every start: times of one machine differ by a tenth."""
    return found is not None and (known is None or found < 0.9 * known)


def _least(known: float | None, found: float | None) -> float | None:
    return min((value for value in (known, found) if value is not None), default=None)


def _path(chosen: Chosen, runtime: str) -> Path:
    contents = chosen.bundle.graph_files(chosen.graph).values()
    where = (platform.node(), str(usable_cores()), cpu_identity(), gpu_identity())
    threads = chosen.threads if find(runtime).device == "cpu" else None  # a GPU is as fast with any number
    key = "\n".join([runtime, str(threads), *contents, *where])
    return cache_folder("costs", f"{hashlib.sha256(key.encode()).hexdigest()}.json")
