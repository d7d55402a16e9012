"""Reports as dataclasses: those that were committed are read whole, and anything else is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from pahi_rt.bench.reports.cuda import CudaReport
from pahi_rt.bench.reports.latency import LatencyReport
from pahi_rt.bench.reports.peers import PeersReport
from pahi_rt.bench.reports.precisions import PrecisionsReport
from pahi_rt.bench.reports.report import Machine, Report, Spread
from pahi_rt.bench.reports.table2 import RuntimeRows, Table2Report, Unavailable

RESULTS = Path(__file__).parents[2] / "pahi_rt" / "bench" / "results"
KINDS: dict[str, type[Report]] = {
    "cuda": CudaReport,
    "latency": LatencyReport,
    "peers": PeersReport,
    "precisions": PrecisionsReport,
    "table2": Table2Report,
}


def lost(old: Any, new: Any) -> bool:
    """Whether something of `old` is missing in `new`, or another value there."""
    if isinstance(old, dict):
        return any(key not in new or lost(value, new[key]) for key, value in old.items())
    if isinstance(old, list):
        return len(old) != len(new) or any(map(lost, old, new))
    return bool(old != new)


@pytest.mark.parametrize("path", sorted(RESULTS.glob("*/*.json")), ids=lambda path: path.stem)
def test_a_committed_report_is_read_whole(path: Path) -> None:
    (kind,) = (kind for name, kind in KINDS.items() if f"-{name}" in path.stem)
    data = json.loads(path.read_text())
    report = kind.from_dict(data)
    assert not lost(data, report.to_dict())
    assert kind.from_dict(json.loads(json.dumps(report.to_dict()))) == report


def test_runtimes_are_told_apart_by_what_they_have() -> None:
    data = json.loads((RESULTS / "amd-epyc-2-cores" / "emoji-table2.json").read_text())
    data["runtimes"].append({"runtime": "tensorrt", "reason": "there is no GPU", "fix": "get one"})
    report = Table2Report.from_dict(data)
    assert [type(runtime) for runtime in report.runtimes] == [RuntimeRows, RuntimeRows, Unavailable]
    assert [runtime.runtime for runtime in report.working] == ["onnxruntime", "openvino"]
    assert [runtime.fix for runtime in report.missing] == ["get one"]


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        ([], "Spread is an object"),
        ({"median": 1.0, "p10": 1.0, "p90": 1.0}, "missing key 'n'"),
        ({"median": "1", "p10": 1.0, "p90": 1.0, "n": 1}, "median: '1' does not fit"),
        ({"median": 1.0, "p10": 1.0, "p90": 1.0, "n": 1, "mean": 1.0}, "Spread has no key 'mean'"),
    ],
)
def test_what_does_not_fit_is_named(data: object, problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        Spread.from_dict(data)


def test_a_key_without_a_value_is_left_out_or_null() -> None:
    spread = Spread(median=1.0, p10=1.0, p90=1.0, n=1)
    assert spread.to_dict() == {"median": 1.0, "p10": 1.0, "p90": 1.0, "n": 1}
    machine = Machine(
        cpu=None, cores=2, load_average_1min=0.1, system="Linux x86_64", python="3.11", onnxruntime=None, commit=None
    )
    assert machine.to_dict()["openvino"] is None
