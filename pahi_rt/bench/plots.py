"""Reports as plots: how fast, how good for its time, and where the time goes."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from itertools import cycle
from pathlib import Path
from typing import Any

from pahi_rt.bench import best_plot, cuda_plot, frontier, load_plot, shards_plot
from pahi_rt.bench.cells import measured_on
from pahi_rt.bench.figures import new_figure
from pahi_rt.bench.markdown import Json
from pahi_rt.bench.reports.best import BestReport
from pahi_rt.bench.reports.cuda import CudaReport
from pahi_rt.bench.reports.frontier import FrontierReport
from pahi_rt.bench.reports.peers import PeersReport
from pahi_rt.bench.reports.serve import ServeReport
from pahi_rt.bench.reports.shards import ShardsReport
from pahi_rt.bench.reports.table2 import COMPONENTS, Table2Report
from pahi_rt.manifest import GAUSSIAN
from pahi_rt.record import Record

REPORT = "Report"
"""The text in a PNG that says which report it was drawn from."""
COLOURS = {"onnxruntime": "tab:blue", "openvino": "tab:orange", "openvino-bf16": "tab:red"}
MARKERS = {1: "o", 2: "s"}


APART: dict[str, tuple[type[Record], Callable[..., None]]] = {
    "groups": (FrontierReport, frontier.draw),
    "judges": (BestReport, best_plot.draw),
    "moments": (ServeReport, load_plot.draw),
    "cluster": (ShardsReport, shards_plot.draw),
    "device": (CudaReport, cuda_plot.draw),
}
"""A key that the reports of one kind have -> that kind, and what draws it."""


def draw(data: Json, path: Path, digest: str) -> None:
    """Write the plot of a report's JSON, with its `digest`.

    Raises PahiError without matplotlib, and ReportError for a report that has no plot.
    """
    metadata = {REPORT: digest, "Software": None}
    for key, (kind, draw_apart) in APART.items():
        if key in data:
            draw_apart(kind.from_dict(data), path, metadata)
            return
    report = PeersReport.from_dict(data) if "reference" in data else Table2Report.from_dict(data)
    panels = list(_panels(report))
    rows, columns = -(-len(panels) // 2), min(2, len(panels))
    figure = new_figure(13 if columns == 2 else 8, 4.4 * rows)
    places = figure.subplots(rows, columns, squeeze=False).flat
    for panel, place in zip(panels, places, strict=False):
        panel(place)
    figure.suptitle(_title(report), fontsize=10)
    figure.savefig(path, dpi=110, metadata=metadata)


def _title(report: PeersReport | Table2Report) -> str:
    machine = measured_on(report)
    if isinstance(report, PeersReport):
        return f"One picture, one step, batch 1.\n{machine}"
    size = " x ".join(map(str, report.picture))
    return f"{report.bundle}, {report.precision}, {size}, batch 1.\n{machine}"


def _panels(report: PeersReport | Table2Report) -> list[Callable[[Any], None]]:
    if isinstance(report, PeersReport):
        return [partial(contenders, report)]
    scores = [partial(quality, report, label) for label in report.scorers]
    return [partial(latency, report), partial(components, report), *scores]


def latency(report: Table2Report, panel: Any) -> None:
    """The median of each row, a line to its 90th percentile, and the least time that the machine needs."""
    names: list[str] = []
    for runtime in report.working:
        for row in runtime.rows:
            place, median = len(names), row.ms.median
            panel.barh(place, median, color=COLOURS.get(runtime.runtime, "0.5"), height=0.7)
            panel.plot([median, row.ms.p90], [place, place], color="0.3", linewidth=1)
            panel.plot([row.limit_ms] * 2, [place - 0.45, place + 0.45], color="black", linewidth=2)
            names.append(f"{runtime.runtime}: {row.row}")
    panel.set_yticks(range(len(names)), names, fontsize=7)
    panel.invert_yaxis()
    panel.set_xlabel("ms a picture: median, to the 90th percentile; black: this machine's limit")


def components(report: Table2Report, panel: Any) -> None:
    """The times of all components stacked, for each runtime and for the machine's limit."""
    stacks = {"limit": {name: work.limit_ms for name, work in report.work.items()}}
    for runtime in report.working:
        if parts := runtime.components_ms:
            stacks[runtime.runtime] = {name: ms.median for name, ms in parts.items()}
    left = dict.fromkeys(stacks, 0.0)
    for name in COMPONENTS:
        widths = [stack.get(name, 0.0) for stack in stacks.values()]
        panel.barh(list(stacks), widths, left=list(left.values()), label=name, height=0.6)
        left = {key: left[key] + width for key, width in zip(stacks, widths, strict=True)}
    panel.invert_yaxis()
    panel.set_xlabel("ms of each component, alone, one step")
    panel.legend(fontsize=8, ncols=4, loc="lower center", bbox_to_anchor=(0.5, 1.0))


def quality(report: Table2Report, label: str, panel: Any) -> None:
    """The paper's trade: mean score against time, a point for each prior and number of steps."""
    sides = cycle((("bottom", 6), ("top", -6)))  # so that names of two runtimes do not meet
    for runtime, (side, offset) in zip(report.working, sides, strict=False):
        colour = COLOURS.get(runtime.runtime, "0.5")
        for row in runtime.rows:
            if not row.scores:
                continue
            place = row.ms.median, row.scores[label]
            panel.plot(*place, MARKERS.get(row.steps, "^"), color=colour)
            text = "no prior" if row.prior == GAUSSIAN else row.prior.upper()
            panel.annotate(
                text, place, xytext=(0, offset), textcoords="offset points", fontsize=7, ha="center", va=side
            )
        panel.plot([], [], color=colour, label=runtime.runtime)
    for steps, marker in MARKERS.items():
        panel.plot([], [], marker, color="0.5", label=f"{steps} step{'s' * (steps > 1)}")
    panel.margins(0.12)
    panel.set_xlabel("ms a picture, median")
    panel.set_ylabel(f"mean score, {label}")
    panel.legend(fontsize=8, ncols=2)


def contenders(report: PeersReport, panel: Any) -> None:
    """Each contender's time over the reference's, pair by pair, with its interval."""
    rows = sorted(report.measured, key=lambda row: row.time_over_reference.median)
    for place, row in enumerate(rows):
        times = row.time_over_reference
        colour = "tab:blue" if row.name.startswith("pahi-rt") else "0.6"
        panel.barh(place, times.median, color=colour, height=0.7)
        panel.plot([times.low, times.high], [place, place], color="0.2", linewidth=1.5)
        text = f" {times.median:.2f} ({row.ms.median / 1000:.2f} s)"
        panel.annotate(text, (times.high, place), va="center", fontsize=8)
    panel.axvline(1, color="0.7", linewidth=1, zorder=0)
    full = [" (full autoencoder)" if row.decoder.startswith("AutoencoderKL") else "" for row in rows]
    panel.set_yticks(range(len(rows)), [row.name + note for row, note in zip(rows, full, strict=True)], fontsize=8)
    panel.invert_yaxis()
    panel.margins(x=0.25)
    panel.set_xlabel(f"time over {report.reference.name}'s (line), with the 95 % interval")
