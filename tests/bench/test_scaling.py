"""What a million pictures take: reckoned from the reports in this checkout."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from pahi_rt.bench.devices import H100, H200, L4, RTX_4090
from pahi_rt.bench.reports.cuda import CudaRow
from pahi_rt.bench.reports.scaling import Device, ScalingReport
from pahi_rt.bench.scaling import Sources, read_sources, reckon
from pahi_rt.errors import ReportError

RESULTS = Path(__file__).parents[2] / "bench" / "results"


@pytest.fixture(scope="module")
def sources() -> Sources:
    return read_sources(RESULTS)


@pytest.fixture(scope="module")
def report(sources: Sources) -> ScalingReport:
    return reckon(sources)


def find(report: ScalingReport, name: str) -> Device:
    return next(device for device in report.devices if device.name == name)


def test_the_committed_report_is_what_the_other_reports_give(report: ScalingReport) -> None:
    kept = ScalingReport.from_dict(json.loads((RESULTS / "bulk-scaling.json").read_bytes()))
    assert replace(kept, command="") == replace(report, command="")


def test_an_unknown_card_lies_between_the_ratios_of_the_peaks(report: ScalingReport) -> None:
    known = find(report, "H200").draw_ms.best
    found = find(report, "H100").draw_ms
    assert found.best == known and found.worst == pytest.approx(known * 4800 / 3350, rel=1e-3)
    assert H100.fp16_tflops == H200.fp16_tflops
    ratio = find(report, "L4").draw_ms.best / find(report, "RTX 4090").draw_ms.best
    assert ratio == pytest.approx(RTX_4090.fp16_tflops / L4.fp16_tflops, rel=1e-3)


def test_batches_and_components_are_no_times_of_a_picture(sources: Sources, report: ScalingReport) -> None:
    row = next(row for row in sources.gpu.contenders if isinstance(row, CudaRow))
    fast = replace(row, ms=replace(row.ms, median=0.001))
    others = (replace(fast, name=f"{row.name}, batch 4", batch=4), replace(fast, name=f"{row.name}, unet alone"))
    gpu = replace(sources.gpu, contenders=(*sources.gpu.contenders, *others))
    assert reckon(replace(sources, gpu=gpu)).devices == report.devices


def test_no_time_is_below_the_limit(report: ScalingReport) -> None:
    limits = {device.name: device.limit for device in report.devices if device.limit}
    assert len(limits) == 5
    assert all(find(report, name).draw_ms.best > limit.ms for name, limit in limits.items())


def test_hours_machines_and_money_follow_from_the_rate(report: ScalingReport) -> None:
    billion = next(work for work in report.works if work.device == "H200" and work.pictures == 10**9)
    device = find(report, "H200")
    hours = 1e9 / device.pictures_per_s.best / 3600
    assert billion.hours.best == pytest.approx(hours, rel=1e-3)
    assert billion.dollars.best == pytest.approx(hours * device.dollars_per_h, rel=1e-3)
    assert billion.machines.best * 24 * billion.days >= hours > (billion.machines.best - 1) * 24 * billion.days


def test_encoding_holds_up_a_fast_card_and_not_a_slow_one(report: ScalingReport) -> None:
    assert find(report, "H200").limits == "encoding"
    assert find(report, "L4").limits == "graph"


def test_without_the_reports_it_says_where_to_run() -> None:
    with pytest.raises(ReportError) as caught:
        read_sources(Path("nowhere"))
    assert "checkout" in caught.value.fix
