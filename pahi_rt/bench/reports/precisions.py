"""The report of `pahi-rt bench precisions`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from pahi_rt.bench.reports.report import Report
from pahi_rt.record import Record
from pahi_rt.schema import INLINE

CHANGE = "_change_percent_of_sd"
"""Ending of a scorer's key in the JSON of `PrecisionRow.changes`."""


@dataclass(frozen=True)
class ScoreSpread(Record):
    """Scores of the reference's pictures, in the scorer's unit."""

    mean: float
    sd: float


@dataclass(frozen=True)
class Fidelity(Record):
    """How near pictures are to the reference's."""

    psnr_db: float | None
    """PSNR over all pictures; None if they are equal."""
    worst_psnr_db: float | None
    """PSNR of the picture that differs most; None if all are equal."""
    ssim: float
    """Mean over the pictures."""


@dataclass(frozen=True, kw_only=True)
class PrecisionRow(Record):
    precision: str
    runtime: str
    ms: float
    """Median time of the graph alone."""
    time_over_fp32: float
    """Median of the ratios pair by pair, to fp32 on ONNX Runtime."""
    fidelity: Fidelity = field(metadata=INLINE)
    changes: Mapping[str, float]
    """Scorer -> change of the mean score, in % of the standard deviation between the reference's pictures."""

    def to_dict(self) -> dict[str, Any]:
        data = super().to_dict()
        return data | {f"{label}{CHANGE}": value for label, value in data.pop("changes").items()}


@dataclass(frozen=True, kw_only=True)
class PrecisionsReport(Report):
    """Report of `pahi-rt bench precisions`."""

    bundle: str
    prompts: int
    fp32_scores: Mapping[str, ScoreSpread]
    rows: tuple[PrecisionRow, ...]

    @classmethod
    def from_dict(cls, data: object, where: str = "JSON") -> PrecisionsReport:
        if isinstance(data, dict) and isinstance(data.get("rows"), list):
            data = data | {"rows": [_gather_changes(row) for row in data["rows"]]}
        return super().from_dict(data, where)


def _gather_changes(row: object) -> object:
    """A row of JSON, which has a key for each scorer, with all of them in `changes`."""
    if not isinstance(row, dict):
        return row
    changes = {key.removesuffix(CHANGE): value for key, value in row.items() if key.endswith(CHANGE)}
    return {key: value for key, value in row.items() if not key.endswith(CHANGE)} | {"changes": changes}
