"""The report of `pahi-rt bench latency`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pahi_rt.bench.reports.report import Report, Spread


@dataclass(frozen=True, kw_only=True)
class LatencyReport(Report):
    """Report of `pahi-rt bench latency`."""

    bundle: str
    prior: str
    runtime: Mapping[str, Any]
    """The runtime's own description."""
    one_step_ms: Spread
    """From the prompt to the picture as an image, in a running process."""
    two_steps_ms: Spread
    cold_start_ms: Spread
    """`pahi-rt generate` in a new process, from start to exit."""
    two_steps_over_one: float
    """Median of the ratios pair by pair."""
