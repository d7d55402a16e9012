"""The report of `pahi-rt bench sensitivity`."""

from __future__ import annotations

from dataclasses import dataclass

from pahi_rt.bench.reports.report import Report
from pahi_rt.pictures import rounded_psnr
from pahi_rt.record import Record


@dataclass(frozen=True, kw_only=True)
class Layer(Record):
    """One convolution or matrix product with weights."""

    name: str
    component: str
    gflop: float
    """10^9 operations for one picture; a multiply-add is two."""
    error: float
    """Mean squared error of pictures in [0, 1] if this layer alone computes in 8 bits."""
    is_exported: bool
    """Whether an export lets it compute in 8 bits."""
    is_by_rule: bool
    """Whether the rule does."""

    @property
    def psnr_db(self) -> float | None:
        """PSNR of pictures if this layer alone computes in 8 bits; None if they are equal."""
        return rounded_psnr(self.error)


@dataclass(frozen=True)
class Choice(Record):
    """Pictures with several layers in 8 bits."""

    gflop_in_8_bits: float
    psnr_db: float | None
    """Over all pictures, against all layers in 32 bits."""
    worst_psnr_db: float | None
    """PSNR of the worst picture."""
    expected_psnr_db: float | None
    """What the errors of its layers add up to, as if they were independent."""


@dataclass(frozen=True, kw_only=True)
class SensitivityReport(Report):
    """Report of `pahi-rt bench sensitivity`."""

    bundle: str
    pictures: int
    calibration: int
    """Prompts that ranges were measured with."""
    target_db: float
    """What the rule aims at."""
    all_layers: Choice
    as_exported: Choice
    by_rule: Choice
    layers: tuple[Layer, ...]
    """In the order of the rule: those that cost most for each operation first."""
