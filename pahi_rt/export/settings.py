"""Which graphs a bundle gets, and how the files of each are called.

A graph is a `Variant`: a number of steps, a prior or none, and a precision.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from pahi_rt.errors import PahiError
from pahi_rt.export.calibration import GENERAL
from pahi_rt.export.graph import PORTABLE_OPSET, check_opset
from pahi_rt.export.parity import Tolerance
from pahi_rt.export.precision import ALL
from pahi_rt.manifest import GAUSSIAN

STEMS = {1: "one-step", 2: "two-step", 3: "three-step", 4: "four-step"}
"""Number of steps -> how the graph's file is called."""


@dataclass(frozen=True)
class ExportSettings:
    """What is exported of a model. Raises PahiError for what is not supported, or for the same thing twice."""

    steps: tuple[int, ...] = (1, 2)
    precisions: tuple[str, ...] = ("fp32",)
    """The first is the bundle's default."""
    opset: int = PORTABLE_OPSET
    calibration: tuple[str, ...] = GENERAL
    """Prompts that int8 takes its ranges from."""
    min_psnr: float | None = None
    """How near to PyTorch fp32 a graph of fewer bits must come, in dB; None for what `precision` requires."""

    def __post_init__(self) -> None:
        if self.min_psnr is not None and not self.min_psnr > 0:
            raise PahiError(
                f"graphs cannot be held to a PSNR of {self.min_psnr:g} dB", fix="give --min-psnr a number above 0"
            )
        _check_choice("graphs of the steps", self.steps, STEMS)
        _check_choice("graphs of the precision", self.precisions, ALL)
        check_opset(self.opset)

    def near(self, precision: str) -> Tolerance:
        """How near a graph's pictures must come to PyTorch fp32 with the weights as trained."""
        near = ALL[precision].near
        return near if self.min_psnr is None or not near.psnr_db else replace(near, psnr_db=self.min_psnr)


def _check_choice(what: str, chosen: Sequence[object], known: Iterable[object]) -> None:
    names = ", ".join(map(str, known))
    if not chosen or len(set(chosen)) < len(chosen) or not set(chosen) <= set(known):
        what = f"cannot export {what} {', '.join(map(str, chosen)) or 'none'}"
        raise PahiError(what, fix=f"name one or more of {names}, each once")


@dataclass(frozen=True)
class Variant:
    """One graph of a bundle."""

    steps: int
    prior: str
    """Kind of the prior, or "gaussian" for none."""
    precision: str

    @property
    def place(self) -> tuple[int, str]:
        """Its place in `Drawn`: pictures in fp32 are the same for all precisions."""
        return self.steps, self.prior

    @property
    def file(self) -> str:
        """one-step.onnx, one-step-pahi-fp16.onnx, ..."""
        prior = "" if self.prior == GAUSSIAN else f"-{self.prior}"
        return name_file(STEMS[self.steps] + prior, self.precision, "onnx")


def name_file(stem: str, precision: str, suffix: str) -> str:
    """weights.bin, weights-fp16.bin, ..."""
    return stem + ("" if precision == "fp32" else f"-{precision}") + f".{suffix}"
