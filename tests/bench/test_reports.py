"""Reports as dataclasses: those that were committed are read whole, and anything else is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from pahi_rt.bench.reports.best import BestReport
from pahi_rt.bench.reports.bulk import BulkReport
from pahi_rt.bench.reports.cuda import CudaReport, CudaRow, Share
from pahi_rt.bench.reports.latency import LatencyReport
from pahi_rt.bench.reports.operators import OperatorsReport
from pahi_rt.bench.reports.peers import PeersReport
from pahi_rt.bench.reports.precisions import PrecisionsReport
from pahi_rt.bench.reports.report import Machine, Report, Spread
from pahi_rt.bench.reports.sensitivity import SensitivityReport
from pahi_rt.bench.reports.stages import StagesReport
from pahi_rt.bench.reports.table2 import RuntimeRows, Table2Report, Unavailable
from pahi_rt.errors import PahiError, ReportError

RESULTS = Path(__file__).parents[2] / "pahi_rt" / "bench" / "results"
SPREAD = {"median": 1.0, "p10": 1.0, "p90": 1.0, "n": 1}
KINDS: dict[str, type[Report]] = {
    "best": BestReport,
    "bulk": BulkReport,
    "cuda": CudaReport,
    "latency": LatencyReport,
    "operators": OperatorsReport,
    "peers": PeersReport,
    "precisions": PrecisionsReport,
    "sensitivity": SensitivityReport,
    "stages": StagesReport,
    "table2": Table2Report,
}


def lost(old: Any, new: Any) -> bool:
    """Whether something of `old` is missing in `new`, or another value there."""
    if isinstance(old, dict):
        return any(key not in new or lost(value, new[key]) for key, value in old.items())
    if isinstance(old, list):
        return len(old) != len(new) or any(map(lost, old, new))
    return bool(old != new)


def read(path: Path) -> tuple[str, Any]:
    """The benchmark of a committed report, and the report."""
    ((name, kind),) = ((name, kind) for name, kind in KINDS.items() if f"-{name}" in path.stem)
    return name, kind.from_dict(json.loads(path.read_text()))


@pytest.mark.parametrize("path", sorted(RESULTS.glob("*/*.json")), ids=lambda path: path.stem)
def test_a_committed_report_is_read_whole(path: Path) -> None:
    _, report = read(path)
    assert not lost(json.loads(path.read_text()), report.to_dict())
    assert type(report).from_dict(json.loads(json.dumps(report.to_dict()))) == report


def test_runtimes_are_told_apart_by_what_they_have() -> None:
    data = json.loads((RESULTS / "amd-epyc-avx2-2-cores" / "emoji-table2.json").read_text())
    data["runtimes"].append({"runtime": "tensorrt", "reason": "there is no GPU", "fix": "get one"})
    report = Table2Report.from_dict(data)
    assert [type(runtime) for runtime in report.runtimes] == [RuntimeRows, RuntimeRows, Unavailable]
    assert [runtime.runtime for runtime in report.working] == ["onnxruntime", "openvino"]
    assert [runtime.fix for runtime in report.missing] == ["get one"]


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        ([], "one_step_ms: expected an object"),
        ({"median": 1.0, "p10": 1.0, "p90": 1.0}, "missing key 'n'"),
        ({"median": "1", "p10": 1.0, "p90": 1.0, "n": 1}, "median: expected a finite number, found '1'"),
        ({"median": 1.0, "p10": 1.0, "p90": 1.0, "n": 1, "mean": 1.0}, "unknown key 'mean'"),
    ],
)
def test_what_does_not_fit_is_named(data: object, problem: str) -> None:
    report = json.loads((RESULTS / "amd-epyc-avx2-2-cores" / "emoji-latency.json").read_text())
    with pytest.raises(ReportError, match=problem) as caught:
        LatencyReport.from_dict(report | {"one_step_ms": data})
    assert caught.value.fix == "name another report"


def test_a_record_without_a_key_is_whole_or_absent() -> None:
    row = {"name": "a", "build_s": 1, "ms": SPREAD, "psnr_db": None, "largest_difference_levels": None, "gflop": 2.0}
    share = {"tflops_per_s": 3.0, "share_of_compute_limit_percent": 4.0, "compute_limit_ms": 5.0}
    assert CudaRow.from_dict(row).share is None
    assert CudaRow.from_dict(row | share).share == Share(3.0, 4.0, 5.0)
    with pytest.raises(PahiError, match="missing key 'compute_limit_ms'"):
        CudaRow.from_dict(row | {"tflops_per_s": 3.0, "share_of_compute_limit_percent": 4.0})
    with pytest.raises(PahiError, match="unknown key 'share'"):
        CudaRow.from_dict(row | {"share": share})


def test_what_fits_no_record_of_several_says_why_for_each() -> None:
    report = json.loads((RESULTS / "amd-epyc-avx2-2-cores" / "emoji-table2.json").read_text())
    with pytest.raises(ReportError, match=r"runtimes\[0\]: missing key 'rows'; or .*: missing key 'reason'"):
        Table2Report.from_dict(report | {"runtimes": [{"runtime": "tensorrt"}]})


def test_a_key_without_a_value_is_left_out_or_null() -> None:
    spread = Spread(median=1.0, p10=1.0, p90=1.0, n=1)
    assert spread.to_dict() == {"median": 1.0, "p10": 1.0, "p90": 1.0, "n": 1}
    machine = Machine(
        cpu=None, cores=2, load_average_1min=0.1, system="Linux x86_64", python="3.11", onnxruntime=None, commit=None
    )
    assert machine.to_dict()["openvino"] is None
