"""What bulk runs take, as tables in Markdown: measured, reckoned and simulated."""

from __future__ import annotations

from collections.abc import Callable

from pahi_rt.bench.cells import hardware, table
from pahi_rt.bench.reports.bulk import BulkReport
from pahi_rt.bench.reports.scaling import Range, ScalingReport, Work
from pahi_rt.bench.reports.shards import ShardsReport, ShardsRow
from pahi_rt.bench.reports.stages import StagesReport


def bulk(report: BulkReport) -> str:
    """One process and several."""
    rates = {"1 process": report.one_process_per_s, f"{report.processes} processes": report.several_per_s}
    rows = [(name, f"{rate.median:.1f}", f"{rate.p10:.1f}-{rate.p90:.1f}", rate.n) for name, rate in rates.items()]
    note = f"Several over one, run by run: {report.several_over_one:.2f}."
    return "\n\n".join([table(("", "pictures/s, median", "p10-p90", "runs"), rows), note, hardware(report)])


def stages(report: StagesReport) -> str:
    """What one picture takes beside the graph."""
    sizes = {stage.pixels for stage in report.stages}
    columns = sorted(size for size in sizes if size is not None)
    names = dict.fromkeys(stage.name for stage in report.stages)
    cells = {(stage.name, stage.pixels): stage for stage in report.stages}

    def cell(name: str, pixels: int) -> str:
        stage = cells.get((name, pixels)) or cells[name, None]
        size = "" if stage.bytes is None else f", {stage.bytes / 1000:.0f} kB"
        return f"{stage.ms.median:.3g} ms{size}"

    head = ("", *(f"{pixels} x {pixels}" for pixels in columns))
    rows = [(name, *(cell(name, pixels) for pixels in columns)) for name in names]
    shown = "; ".join(f"{pixels} x {pixels}: {what}" for pixels, what in report.pictures.items())
    return "\n\n".join([table(head, rows), f"What was encoded: {shown}.", hardware(report)])


def works(report: ScalingReport) -> str:
    """What each number of pictures takes on each machine."""
    cells = {(work.device, work.model, work.pictures): _work(work) for work in report.works}
    numbers = sorted({work.pictures for work in report.works})
    rows = [
        (f"{device.model}: {device.name}", f"{_range(device.pictures_per_s)}, {device.kind}")
        + tuple(cells[device.name, device.model, number] for number in numbers)
        for device in report.devices
    ]
    head = ("model and machine", "pictures/s", *(f"{number:,} pictures" for number in numbers))
    return table(head, rows) + f"\n\n`{report.command}`"


def _work(work: Work) -> str:
    machines = f"{_range(work.machines)} in {_days(work.days)}"
    return f"{_range(work.hours)} h: {machines}, {_range(work.dollars, _money)}"


def limits(report: ScalingReport) -> str:
    """What holds each machine up: the times of a picture's parts, and the rates that follow from them."""
    times, rates = [], []
    for device in report.devices:
        if device.host_ms is None:
            continue
        name, limit, jpeg = f"{device.model}: {device.name}", device.limit, device.jpeg_per_s
        least = "" if limit is None else f"{limit.compute_ms:.1f} / {limit.weights_ms:.1f}"
        times.append(
            (name, _range(device.draw_ms), least, f"{device.host_ms:.0f}")
            + (f"{device.host_ms / device.cores:.1f} on {device.cores}", f"{device.kind}: {device.how}")
        )
        rates.append(
            (name, device.limits, _range(device.serial_per_s), _range(device.pictures_per_s))
            + ("" if jpeg is None else _range(jpeg),)
        )
    head = (
        "",
        "graph, ms",
        "least: compute / weights",
        "all else, ms of a core",
        "on all cores",
        "source of the graph's time",
    )
    return "\n\n".join(
        [table(head, times), table(("", "limit", "pictures/s in turn", "at once", "at once, JPEG"), rates)]
    )


def shared(report: ScalingReport) -> str:
    """What all workers of a run share."""
    rows = [(one.name, f"{one.pictures_per_s:,.0f}", f"{one.workers:,}", one.kind) for one in report.shared]
    return table(("", "pictures/s", "is enough for machines of the fastest kind", ""), rows)


def storage(report: ScalingReport) -> str:
    """What the pictures take in an object store."""
    rows = [
        (f"{one.pictures:,}", f"{one.format}, {one.pixels} x {one.pixels}", f"{one.terabytes:.3g}")
        + tuple(_money(value) for value in (one.dollars_per_month, one.shard_dollars, one.files_dollars))
        for one in report.stored
    ]
    head = (
        "pictures",
        "format",
        "TB",
        "storage, a month",
        "requests to write shards",
        "requests to write single files",
    )
    return table(head, rows)


def assumptions(report: ScalingReport) -> str:
    """What all of it rests on."""
    return "\n".join(f"- **{one.kind}**: {one.text}." for one in report.assumptions)


def shards(report: ShardsReport) -> str:
    """What the size of a shard costs."""
    rows = [
        (_lifetime(row.lifetime_h), f"{row.shard_s / 60:g} min", f"{row.shards:,}")
        + (", ".join(filter(None, [_longer(row), _ended(row)])),)
        + tuple(f"{share:.1f} %" for share in (row.lost_percent, row.starting_percent, row.idle_percent))
        + (f"{row.driver_percent:.0f} %",)
        for row in report.rows
    ]
    head = ("a worker lives", "a shard takes", "shards", "longer than ideal", "work lost", "replacing", "waiting")
    return table((*head, "driver busy"), rows) + f"\n\n`{report.command}`"


def _longer(row: ShardsRow) -> str:
    return "" if row.ended == row.runs else f"{row.longer_percent:.1f} %"


def _ended(row: ShardsRow) -> str:
    return f"{row.ended} of {row.runs} ended early" if row.ended else ""


def _lifetime(hours: float | None) -> str:
    return "for ever" if hours is None else f"{hours:g} h"


def _days(days: int) -> str:
    return "a day" if days == 1 else f"{days} days"


def _money(value: float) -> str:
    """Dollars in three digits, zeros at the end included."""
    return f"${value:#.3g}" if value < 100 else f"${_number(value)}"


def _range(value: Range, write: Callable[[float], str] | None = None) -> str:
    low, high = map(write or _number, sorted((value.best, value.worst)))
    return low if low == high else f"{low}-{high.removeprefix('$')}"


def _number(value: float) -> str:
    """Three digits, with commas."""
    if value >= 100:
        return f"{round(value, 3 - len(str(int(value)))):,.0f}"
    return f"{value:.3g}"
