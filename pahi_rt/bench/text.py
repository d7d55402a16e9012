"""Reports as text, for a terminal: each function returns the lines of one report."""

from __future__ import annotations

from pahi_rt.bench.reports.best import BestReport
from pahi_rt.bench.reports.bulk import BulkReport
from pahi_rt.bench.reports.cuda import CudaFailure, CudaReport, CudaRow, DeviceLimits, Failure
from pahi_rt.bench.reports.latency import LatencyReport
from pahi_rt.bench.reports.operators import OperatorsReport
from pahi_rt.bench.reports.peers import PeerRow, PeersReport
from pahi_rt.bench.reports.playground import PlaygroundReport
from pahi_rt.bench.reports.precisions import PrecisionsReport
from pahi_rt.bench.reports.report import Report, Spread
from pahi_rt.bench.reports.scaling import Range, ScalingReport
from pahi_rt.bench.reports.sensitivity import Choice, SensitivityReport
from pahi_rt.bench.reports.serve import ServeReport
from pahi_rt.bench.reports.shards import ShardsRow
from pahi_rt.bench.reports.stages import StagesReport
from pahi_rt.bench.reports.table2 import RuntimeRows, Table2Report, Table2Row, Unavailable
from pahi_rt.terminal import table

_MS = ("median ms", "p10", "p90")
_TABLE2 = ("row", "prompt", "median ms", "p90", "p99", "x one step (95 %)", "RSS MiB", "limit ms", "of limit", "scores")


def latency(report: LatencyReport) -> list[str]:
    times = {"one step": report.one_step_ms, "two steps": report.two_steps_ms, "cold start": report.cold_start_ms}
    rows = [(name, *_ms(ms)) for name, ms in times.items()]
    return [_machine(report), *table([(report.bundle, *_MS), *rows])]


def bulk(report: BulkReport) -> list[str]:
    rates = {"one process": report.one_process_per_s, f"{report.processes} processes": report.several_per_s}
    rows = [(name, f"{rate.median:.2f}") for name, rate in rates.items()]
    times = f"{report.several_over_one:.2f} times as fast"
    return [_machine(report), *table([(report.bundle, "median pictures/s"), *rows]), times]


def stages(report: StagesReport) -> list[str]:
    rows = [
        (stage.name, f"{stage.pixels} x {stage.pixels}" if stage.pixels else "-", f"{stage.ms.median:.4f}")
        + ("-" if stage.bytes is None else f"{stage.bytes:.0f}",)
        for stage in report.stages
    ]
    return [_machine(report), *table([("stage", "pixels", "median ms", "bytes"), *rows])]


def scaling(report: ScalingReport) -> list[str]:
    rows = [
        (f"{work.pictures:,}", work.model, work.device, *map(_span, (work.hours, work.machines, work.dollars)))
        for work in report.works
    ]
    return table([("pictures", "model", "machine", "hours on one", "machines", "dollars"), *rows])


def _machine(report: Report) -> str:
    """What was measured on, for every report whose times depend on it."""
    return f"on {report.machine.title}" + ("; THE MACHINE WAS BUSY" if report.busy else "")


def _ms(spread: Spread) -> tuple[str, str, str]:
    return f"{spread.median:.1f}", f"{spread.p10:.1f}", f"{spread.p90:.1f}"


def _span(value: Range) -> str:
    return f"{value.best:g}" if value.best == value.worst else f"{value.best:g} to {value.worst:g}"


def shards(row: ShardsRow) -> str:
    """One size of shards in a few words."""
    lives = "for ever" if row.lifetime_h is None else f"{row.lifetime_h:g} h"
    ended = f", {row.ended} of {row.runs} runs ended early" if row.ended else ""
    longer = "" if row.ended == row.runs else f": {row.longer_percent:.1f} % longer"
    return f"workers live {lives}, a shard takes {row.shard_s:g} s{longer}{ended}"


def best(report: BestReport) -> list[str]:
    head = ("row", "median ms", *report.judges, *(f"effect, {judge}" for judge in report.judges))
    rows = [
        (row.row, f"{row.ms.median:.1f}", *(f"{row.scores[judge].mean:.3f}" for judge in report.judges))
        + tuple(f"{row.scores[judge].effect_size or 0:+.2f}" for judge in report.judges)
        for row in report.rows
    ]
    return [_machine(report), *table([head, *rows])]


def serve(report: ServeReport) -> list[str]:
    ms = report.drawn_ms
    rows = [
        ("can draw", f"{report.capacity_per_s:.2f} requests/s"),
        ("asked", f"{report.offered_per_s:.2f} requests/s, {report.requests} in all"),
        ("drawn", f"{report.drawn}, median {ms.median:.0f} ms, p90 {ms.p90:.0f}, p99 {ms.p99 or 0:.0f}"),
        ("refused", report.refused),
        ("lost", report.lost),
        ("memory", f"{report.started_rss_mib:.1f} MiB before, {report.peak_rss_mib:.1f} at most"),
    ]
    return [_machine(report), *table(rows)]


def playground(report: PlaygroundReport) -> list[str]:
    rows = [(page.engine, *_ms(page.shown_ms), f"{page.shown_ms.n} of {report.keys}") for page in report.pages]
    return [_machine(report), *table([("drawn by", *_MS, "keys that brought a picture"), *rows])]


def table2(report: Table2Report) -> list[str]:
    limits = report.limits
    return [
        f"{report.bundle}, {report.precision}, {' x '.join(map(str, report.picture))} pixels, batch 1",
        _machine(report),
        f"timed: {report.timed}",
        f"limit: {limits.fp32_gflop_per_s} GFLOP/s in 32 bits, {limits.int8_gop_per_s} in 8,"
        f" {limits.copy_gb_per_s} GB/s, with {limits.threads} threads",
        *(line for runtime in report.runtimes for line in ("", *_runtime(runtime))),
    ]


def _runtime(runtime: RuntimeRows | Unavailable) -> list[str]:
    if isinstance(runtime, Unavailable):
        return [f"{runtime.runtime}: {runtime.reason}", f"  to have it: {runtime.fix}"]
    lines = [runtime.runtime, *table([_TABLE2, *map(_table2_cells, runtime.rows)], indent="  ")]
    rates = ", ".join(f"{rate} at {size}" for size, rate in runtime.images_per_s.items())
    lines.append(f"  pictures/s by batch: {rates}")
    if parts := runtime.components_ms:
        lines.append("  median ms of: " + ", ".join(f"{name} {ms.median}" for name, ms in parts.items()))
    return lines


def _table2_cells(row: Table2Row) -> tuple[object, ...]:
    ms, times = row.ms, row.time_over_one_step
    scores = " ".join(f"{label} {mean:.3f}" for label, mean in (row.scores or {}).items()) or "-"
    ratio = f"{times.median:.3f} ({times.low:.3f}-{times.high:.3f})"
    memory = "-" if row.peak_rss_mib is None else f"{row.peak_rss_mib:.0f}"
    share = f"{row.share_of_limit_percent:.0f} %"
    return row.row, row.prompt, ms.median, ms.p90, ms.p99, ratio, memory, row.limit_ms, share, scores


def peers(report: PeersReport) -> list[str]:
    return [
        f"{_machine(report)}; reference: {report.reference.name}, {report.reference.version}",
        f"{'':32}{'ms':>10}{'ref. ms':>10}{'x ref.':>8}  95 %",
        *(f"{row.name:32}" + (_peer(row) if isinstance(row, PeerRow) else f"  {row.reason}") for row in report.rows),
    ]


def _peer(row: PeerRow) -> str:
    times = row.time_over_reference
    medians = f"{row.ms.median:10.1f}{row.reference_ms.median:10.1f}{times.median:8.3f}"
    return f"{medians}  {times.low:.3f}-{times.high:.3f}"


def precisions(report: PrecisionsReport) -> list[str]:
    head = ("precision", "runtime", "ms", "x fp32", "PSNR dB", "worst", "SSIM")
    rows = [
        (row.precision, row.runtime, row.ms, row.time_over_fp32)
        + (_db(row.fidelity.psnr_db), _db(row.fidelity.worst_psnr_db), row.fidelity.ssim)
        + tuple(f"{change:+.1f}" for change in row.changes.values())
        for row in report.rows
    ]
    scorers = (f"{label}, % of sd" for label in report.fp32_scores)
    return [_machine(report), *table([(*head, *scorers), *rows])]


def operators(report: OperatorsReport) -> list[str]:
    head = ("kind", "nodes", "small", "GFLOP", "MB", "kernels", "ms", "roofline ms")
    kinds = {**report.kinds, "all": report.total}
    rows = [
        (name, kind.nodes, kind.small, f"{kind.gflop:.2f}", f"{kind.megabytes:.1f}", kind.kernels)
        + (f"{kind.ms:.2f}", f"{kind.roofline_ms:.2f}")
        for name, kind in kinds.items()
    ]
    title = f"{report.bundle}, {report.precision}, steps: {report.steps}"
    return [title, _machine(report), *table([head, *rows])]


def sensitivity(report: SensitivityReport) -> list[str]:
    choices = {"all": report.all_layers, "as exported": report.as_exported, "by the rule": report.by_rule}
    head = ("layers in 8 bits", "GFLOP", "PSNR dB", "worst", "expected")
    layers = [
        (layer.name, f"{layer.gflop:.3f}", _db(layer.psnr_db), _mark(layer.is_exported), _mark(layer.is_by_rule))
        for layer in report.layers
    ]
    return [
        f"{report.bundle}, {report.pictures} pictures",
        _machine(report),
        *table([head, *((name, *_choice(choice)) for name, choice in choices.items())]),
        "",
        *table([("layer", "GFLOP", "PSNR dB alone", "exported", "by the rule"), *layers]),
    ]


def _choice(choice: Choice) -> tuple[str, ...]:
    decibels = map(_db, (choice.psnr_db, choice.worst_psnr_db, choice.expected_psnr_db))
    return f"{choice.gflop_in_8_bits:.2f}", *decibels


def _db(value: float | None) -> str:
    return "equal" if value is None else f"{value:.1f}"


def _mark(is_in_8_bits: bool) -> str:
    return "8 bits" if is_in_8_bits else "-"


def cuda(report: CudaReport) -> list[str]:
    machine = report.machine
    return [
        f"{machine.gpu or machine.cpu}, PyTorch {machine.torch}, model {report.model}",
        f"timed: {report.timed}",
        *_attainable(report.limits),
        f"{'':36}{'ms':>9}{'p10':>9}{'p90':>9}{'n':>5}{'x ref.':>8}{'PSNR dB':>9}{'limit %':>9}  reference",
        *(
            f"{row.name:36}" + (_cuda_cells(row) if isinstance(row, CudaRow) else f"  {summary(row)}")
            for row in report.contenders
        ),
    ]


def _attainable(limits: DeviceLimits | Failure) -> list[str]:
    if isinstance(limits, Failure):
        return []
    rates = f"{limits.gemm_tflops_per_s} TFLOP/s ({limits.gemm}), {limits.copy_gb_per_s} GB/s copied"
    return [f"attainable: {rates}"]


def _cuda_cells(row: CudaRow) -> str:
    ms, against = row.ms, row.comparison
    ratio = f"{against.time_over_reference.median:.3f}" if against else "-"
    equal = "equal" if row.difference.largest_difference_levels == 0 else "-"
    psnr = f"{row.difference.psnr_db:.1f}" if row.difference.psnr_db is not None else equal
    share = f"{row.share.share_of_compute_limit_percent:.1f}" if row.share else "-"
    overhead = row.overhead.prior_overhead_percent if row.overhead else None
    more = f", prior +{overhead.median} % ({overhead.p10} to {overhead.p90})" if overhead else ""
    times = f"{ms.median:9.2f}{ms.p10:9.2f}{ms.p90:9.2f}{ms.n:5}"
    return f"{times}{ratio:>8}{psnr:>9}{share:>9}  {against.reference if against else ''}{more}"


def summary(row: CudaRow | CudaFailure) -> str:
    """A contender of the GPU's report in a few words."""
    if isinstance(row, CudaFailure):
        return f"{row.failure.status}: {row.failure.reason.splitlines()[0]}"
    return f"{row.ms.median:.2f} ms, built in {row.build_s} s"
