"""pahi-rt bench frontier REPORT.json -o PLOT.png: what a prior's effect costs in diversity.

REPORT.json is printed by `pahi-rt evaluate RUN... --json` for runs in folders named KIND-WEIGHT, such as pahi-0.03. The
runs of a kind become one line through their KL weights, and the baselines single points. There is one panel for each
scorer, over all prompts of the test part; bars are 95 % bootstrap intervals.
"""

from __future__ import annotations

import json
import math
import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from itertools import cycle
from pathlib import Path
from typing import Any

from pahi_rt.bench.figures import new_figure
from pahi_rt.bench.reports.frontier import FrontierReport, FrontierRow
from pahi_rt.errors import ReportError

Rows = Sequence[FrontierRow]
RUN = re.compile(r"(hi|pahi)-(\d[\d.e-]*)")
"""Kind and KL weight."""
MARKERS = "sD^v<>"
"""Markers of the baselines, in their order."""


def read_report(path: Path) -> FrontierReport:
    """Read what `pahi-rt evaluate --json` printed. Raises ReportError for anything else."""
    try:
        report = FrontierReport.from_dict(json.loads(path.read_text(encoding="utf-8")), "it")
    except (OSError, ValueError, ReportError) as error:
        why = error.what if isinstance(error, ReportError) else repr(error)
        what = f"{path} is not a report of an evaluation: {why}"
        raise ReportError(what, fix=FrontierReport.read_fix) from error
    if not report.groups:
        raise ReportError(f"{path} is a report of an evaluation without prompts", fix=FrontierReport.read_fix)
    return report


def sort_rows(rows: Rows) -> tuple[dict[str, Rows], Rows]:
    """The runs of each kind by falling KL weight, and the baselines without the Gaussian."""
    kinds: dict[str, dict[float, FrontierRow]] = defaultdict(dict)
    others = []
    for row in rows[1:]:
        if named := RUN.fullmatch(row.name):
            kinds[named[1]][float(named[2])] = row
        else:
            others.append(row)
    return {kind: [runs[weight] for weight in sorted(runs, reverse=True)] for kind, runs in kinds.items()}, others


def draw(report: FrontierReport, path: Path, metadata: Mapping[str, str | None] | None = None) -> None:
    """Write the plot, with `metadata` in the file. Raises PahiError without matplotlib."""
    group = report.groups[-1]
    figure = new_figure(5.2 * len(report.scorers), 4.6)
    axes = figure.subplots(1, len(report.scorers), squeeze=False)[0]
    for panel, (label, note) in zip(axes, report.scorers.items(), strict=True):
        kinds, others = sort_rows(group.rows)
        for kind, rows in kinds.items():
            _draw_line(panel, rows, label, kind)
        for marker, row, *place in zip(cycle(MARKERS), others, *_places(others, label), strict=False):
            panel.plot(*place, marker, color="0.4", markersize=5, label=row.name)
        panel.plot(1, 0, "k+", markersize=10, label="Gaussian")
        panel.axvline(0.85, color="0.8", linewidth=1, zorder=0)
        panel.set_title(f"{label} ({'trained the priors' if note.trained else 'trained none'})", fontsize=10)
        panel.set_xlabel("diversity, by the Gaussian's")
        panel.set_ylabel("effect size (sd between seeds)")
    # Baselines lie too near each other for labels beside their points; one legend names them for all panels.
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=4, fontsize=8)
    figure.suptitle(f"{group.prompts} held-out prompts x {report.seeds} seeds; numbers are KL weights", fontsize=10)
    figure.savefig(path, dpi=130, metadata=metadata)


def _draw_line(panel: Any, rows: Rows, label: str, kind: str) -> None:
    x, y = _places(rows, label)
    bars = panel.errorbar(x, y, yerr=reaches(rows, label), marker="o", markersize=4, capsize=2, label=kind.upper())
    for row, *place in zip(rows, x, y, strict=True):
        weight = row.name.partition("-")[2]
        panel.annotate(
            weight, place, xytext=(4, 4), textcoords="offset points", fontsize=7, color=bars.lines[0].get_color()
        )


def _places(rows: Rows, label: str) -> tuple[list[float], list[float]]:
    """Diversity and effect of the rows; NaN, which is not drawn, where one is unknown."""
    diversities = [math.nan if row.diversity_ratio is None else row.diversity_ratio.value for row in rows]
    return diversities, [_effect(row, label) for row in rows]


def reaches(rows: Rows, label: str) -> list[list[float]]:
    """How far each interval reaches below and above."""
    effects = [_effect(row, label) for row in rows]
    intervals = [row.scores[label].effect_size_interval for row in rows]
    ends = [interval or (effect, effect) for interval, effect in zip(intervals, effects, strict=True)]
    below = [effect - low for effect, (low, _) in zip(effects, ends, strict=True)]
    above = [high - effect for effect, (_, high) in zip(effects, ends, strict=True)]
    return [below, above]


def _effect(row: FrontierRow, label: str) -> float:
    effect = row.scores[label].effect_size
    return math.nan if effect is None else effect
