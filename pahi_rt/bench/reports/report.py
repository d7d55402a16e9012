"""Records that several reports share."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

from pahi_rt.errors import PahiError, ReportError
from pahi_rt.files import write_whole
from pahi_rt.record import Record
from pahi_rt.schema import IF_ANY


@dataclass(frozen=True, kw_only=True)
class Spread(Record):
    """How repeated measurements are spread, in the unit of the field that holds it."""

    median: float
    p10: float
    """10th percentile: the nearest value at or beyond it, as for the other two."""
    p90: float
    p99: float | None = field(default=None, metadata=IF_ANY)
    n: int
    """Measurements."""


@dataclass(frozen=True)
class Ratio(Record):
    """The median of ratios, each of two pictures that were drawn one after the other."""

    median: float
    low: float
    """Start of the 95 % interval by bootstrap over the pairs."""
    high: float
    """End of that interval."""


@dataclass(frozen=True)
class Limits(Record):
    """Rates that this machine's CPU attains at best."""

    gemm: str
    """The matrix product that was timed."""
    fp32_gflop_per_s: float
    int8_gop_per_s: float
    copy_gb_per_s: float
    """A copied byte counts twice, once read and once written."""
    threads: int


@dataclass(frozen=True, kw_only=True)
class Machine(Record):
    """The machine that was measured; None where it does not tell."""

    cpu: str | None
    cpu_features: tuple[str, ...] | None = None
    cores: int | None
    load_average_1min: float
    system: str
    python: str
    onnxruntime: str | None
    openvino: str | None = None
    pahi_rt: str | None = None
    commit: str | None
    """Commit of the checkout that was measured; None for an installed package."""

    @property
    def title(self) -> str:
        """The processor that was measured, for people."""
        features = f" ({', '.join(self.cpu_features)})" if self.cpu_features else ""
        return f"{self.cpu}{features}, {self.cores} cores"


@dataclass(frozen=True, kw_only=True)
class GpuMachine(Machine):
    gpu: str | None = None
    compute_capability: str | None = None
    gpu_memory_gib: float | None = None
    cuda: str | None = None
    torch: str | None = None
    triton: str | None = None
    gpu_driver: str | None = None

    @property
    def title(self) -> str:
        return self.gpu or super().title


@dataclass(frozen=True, kw_only=True)
class Report(Record):
    """Base of all reports."""

    read_error: ClassVar[type[PahiError]] = ReportError
    read_fix: ClassVar[str] = "name another report"

    command: str
    """The command line that measured it."""
    machine: Machine
    busy: bool | None = field(default=None, metadata=IF_ANY)
    """Whether other programs were using the machine; None where that is not checked."""


def write(report: Record, path: Path | None) -> None:
    """Write the report to `path`, if there is one: a kill leaves the old file or the new one. Raises OSError."""
    if path is not None:
        write_whole(path, json.dumps(report.to_dict(), indent=1) + "\n")
