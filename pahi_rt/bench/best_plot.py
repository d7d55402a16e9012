"""The plot of `pahi-rt bench best`: a panel for each judge, effect against time."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pahi_rt.bench.cells import measured_on
from pahi_rt.bench.figures import new_figure
from pahi_rt.bench.reports.best import BestReport, BestRow
from pahi_rt.manifest import GAUSSIAN

TICKS = [digit * 10**power for power in range(7) for digit in (1, 2, 5)]
COLOURS = ("tab:blue", "tab:orange", "tab:green", "tab:purple")


def draw(report: BestReport, path: Path, metadata: Mapping[str, str | None]) -> None:
    """Write the plot, with `metadata` in the file. Raises PahiError without matplotlib."""
    figure = new_figure(6.2 * len(report.judges), 5)
    panels = figure.subplots(1, len(report.judges), squeeze=False)[0]
    for panel, judge in zip(panels, report.judges, strict=True):
        _panel(report, judge, panel)
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=4, fontsize=8)
    figure.suptitle(f"{report.bundle}: {report.prompts} held-out prompts. {measured_on(report)}", fontsize=10)
    figure.savefig(path, dpi=110, metadata=metadata)


def _panel(report: BestReport, judge: str, panel: Any) -> None:
    colours = dict(zip(report.judges, COLOURS, strict=False))
    for chooser in report.judges:
        rows = [row for row in report.rows if row.chooser == chooser and row.prior == GAUSSIAN]
        panel.plot(*_places(rows, judge), "-", color=colours[chooser], linewidth=1, alpha=0.5)
    for row in report.rows:
        colour = "black" if row.chooser is None else colours[row.chooser]
        marker = {1: "o", 2: "s"}[row.steps] if row.prior == GAUSSIAN else "^"
        ((x,), (y,)) = _places([row], judge)
        ends = row.scores[judge].effect_size_interval or (y, y)
        panel.errorbar(x, y, [[y - ends[0]], [ends[1] - y]], marker=marker, color=colour, capsize=2, markersize=5)
        panel.annotate(_label(row), (x, y), xytext=(5, 5), textcoords="offset points", fontsize=7, color=colour)
    for chooser, colour in colours.items():
        panel.plot([], [], "o-", color=colour, label=f"chosen by {chooser}")
    panel.plot([], [], "o", color="black", label="not chosen")
    panel.plot([], [], "^", color="0.5", label="with the prior")
    panel.set_xscale("log")
    panel.margins(0.15)
    low, high = panel.get_xlim()
    ticks = [tick for tick in TICKS if low <= tick <= high]
    panel.minorticks_off()
    panel.set_xticks(ticks, [f"{tick:,}" for tick in ticks])
    panel.set_title(f"judged by {judge}", fontsize=10)
    panel.set_xlabel("ms a picture, median")
    panel.set_ylabel("effect size (sd between seeds), 95 % interval")


def _places(rows: list[BestRow], judge: str) -> tuple[list[float], list[float]]:
    return [row.ms.median for row in rows], [row.scores[judge].effect_size or 0.0 for row in rows]


def _label(row: BestRow) -> str:
    prior = "" if row.prior == GAUSSIAN else f"{row.prior.upper()} "
    if row.chooser is not None:
        return f"{prior}best of {row.candidates}"
    return prior.strip() or f"{row.steps} step{'s' * (row.steps > 1)}"
