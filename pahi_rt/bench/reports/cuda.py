"""The report of `pahi-rt bench cuda`."""

from __future__ import annotations

from dataclasses import dataclass, field

from pahi_rt.bench.reports.report import GpuMachine, Report, Spread
from pahi_rt.record import Record
from pahi_rt.schema import IF_ANY, INLINE


@dataclass(frozen=True)
class DeviceLimits(Record):
    """Rates that PyTorch attains at best on the device."""

    gemm: str
    """The matrix product that was timed."""
    gemm_tflops_per_s: float
    copy_bytes: int
    copy_gb_per_s: float
    """A copied byte counts twice, once read and once written."""
    status: str = "measured"


@dataclass(frozen=True)
class Failure(Record):
    """Why something could not be measured."""

    status: str
    """`failed` while it was tried, or `skipped` without a try."""
    reason: str


@dataclass(frozen=True)
class Comparison(Record):
    """A contender's time and its reference's, picture by picture."""

    reference: str
    reference_ms: Spread
    time_over_reference: Spread


@dataclass(frozen=True)
class Overhead(Record):
    """The time that a prior adds to the same contender without it."""

    prior_overhead_percent: Spread
    prior_overhead_ms: Spread


@dataclass(frozen=True)
class Difference(Record):
    """How pictures differ from eager fp32's; both are None where they should differ."""

    psnr_db: float | None
    """PSNR over all pictures; None also if they are equal."""
    largest_difference_levels: int | None
    """Largest difference of a value between 0 and 255."""


@dataclass(frozen=True)
class Share(Record):
    """A contender's rate beside what the device attains."""

    tflops_per_s: float
    share_of_compute_limit_percent: float
    """The rate as a part of that of one large matrix product."""
    compute_limit_ms: float
    """The least time that the device needs to compute it."""


@dataclass(frozen=True, kw_only=True)
class CudaRow(Record):
    name: str
    status: str = "measured"
    build_s: float
    """Time until it is ready to draw, without loading the model."""
    ms: Spread
    """From inputs on the host to the picture on the host."""
    comparison: Comparison | None = field(default=None, metadata=INLINE)
    """None for the first, which has no reference."""
    overhead: Overhead | None = field(default=None, metadata=INLINE)
    """None for contenders that are not another one with a prior."""
    difference: Difference = field(metadata=INLINE)
    batch: int | None = field(default=None, metadata=IF_ANY)
    """Pictures at once, and in `ms`; None for one."""
    gflop: float
    """10^9 operations of convolutions and matrix products; a multiply-add is two."""
    precision: str | None = field(default=None, metadata=IF_ANY)
    """Precision of a bundle's graph; None where the name tells it."""
    share: Share | None = field(default=None, metadata=INLINE)
    """None if the device's limits could not be measured."""

    @property
    def title(self) -> str:
        """Its name, with the precision of a bundle's graph."""
        return " ".join(filter(None, [self.name, self.precision]))


@dataclass(frozen=True)
class CudaFailure(Record):
    name: str
    failure: Failure = field(metadata=INLINE)


@dataclass(frozen=True, kw_only=True)
class CudaReport(Report):
    """Report of `pahi-rt bench cuda`."""

    machine: GpuMachine
    timed: str
    """What is inside the timed region."""
    device: str
    model: str
    batch: int
    limits: DeviceLimits | Failure
    contenders: tuple[CudaRow | CudaFailure, ...]
    total_s: float | None = field(default=None, metadata=IF_ANY)
    """Time since the start; None before the first contender."""
