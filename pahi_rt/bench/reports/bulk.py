"""The report of `pahi-rt bench bulk`."""

from __future__ import annotations

from dataclasses import dataclass

from pahi_rt.bench.reports.report import Report, Spread


@dataclass(frozen=True, kw_only=True)
class BulkReport(Report):
    """Report of `pahi-rt bench bulk`."""

    bundle: str
    processes: int
    """Processes in the runs with several, each on one core."""
    pictures_per_process: int
    """In each run."""
    one_process_per_s: Spread
    """Pictures a second of a run with one process."""
    several_per_s: Spread
    several_over_one: float
    """Median of the ratios, run by run."""
