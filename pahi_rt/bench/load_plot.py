"""The plot of `pahi-rt bench serve`: what became of each second's requests, how long they took, and the memory."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pahi_rt.bench.cells import hardware
from pahi_rt.bench.figures import new_figure
from pahi_rt.bench.reports.serve import ServeReport


def draw(report: ServeReport, path: Path, metadata: Mapping[str, str | None]) -> None:
    """Write the plot, with `metadata` in the file. Raises PahiError without matplotlib."""
    figure = new_figure(8, 7.5)
    requests, times, memory = figure.subplots(3, 1, sharex=True, height_ratios=(2, 2, 1.2))
    _requests(report, requests)
    _times(report, times)
    memory.plot([moment.rss_mib for moment in report.moments], color="tab:purple")
    memory.set_ylim(0, 1.3 * report.peak_rss_mib)
    memory.set_ylabel("memory, MiB")
    memory.set_xlabel("seconds")
    busy = ", which was busy" if report.busy else ""
    title = f"{report.bundle}: {report.offered_per_s:.0f} requests/s asked, {report.drawn_per_s:.2g} drawn"
    figure.suptitle(f"{title}.\n{hardware(report).partition(':')[0].partition(';')[0]}{busy}", fontsize=10)
    figure.savefig(path, dpi=110, metadata=metadata)


def _requests(report: ServeReport, panel: Any) -> None:
    seconds = range(len(report.moments))
    parts = {
        "drawn": ([moment.drawn for moment in report.moments], "tab:blue"),
        "refused (429)": ([moment.refused for moment in report.moments], "0.75"),
        "lost": ([moment.lost for moment in report.moments], "tab:red"),
    }
    values, colours = zip(*parts.values(), strict=True)
    panel.stackplot(seconds, *values, labels=list(parts), colors=colours, step="mid")
    panel.set_ylabel("answers a second")
    panel.legend(fontsize=8, ncols=3, loc="lower center", bbox_to_anchor=(0.5, 1.0))


def _times(report: ServeReport, panel: Any) -> None:
    shown = [(at, one.slowest_ms / 1000) for at, one in enumerate(report.moments) if one.slowest_ms is not None]
    panel.plot(*zip(*shown, strict=True), color="tab:blue", label="slowest of the second")
    panel.axhline(report.drawn_ms.median / 1000, color="0.4", linewidth=1, label="median of all")
    panel.axhline(report.deadline_s, color="tab:red", linewidth=1, linestyle="--", label="deadline")
    panel.set_ylim(0, 1.08 * report.deadline_s)
    panel.set_ylabel("time to a picture, s")
    panel.legend(fontsize=8, loc="upper left", bbox_to_anchor=(0.0, 0.88))
