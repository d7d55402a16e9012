"""The plot of `pahi-rt bench cuda`: how long each way to draw takes, beside the least that the GPU needs."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pahi_rt.bench.cells import measured_on
from pahi_rt.bench.figures import new_figure
from pahi_rt.bench.reports.cuda import CudaReport, CudaRow


def draw(report: CudaReport, path: Path, metadata: Mapping[str, str | None]) -> None:
    """Write the plot, with `metadata` in the file. Contenders that were not measured are left to the table."""
    rows = [row for row in report.contenders if isinstance(row, CudaRow)]
    figure = new_figure(9, 1.4 + 0.34 * len(rows))
    panel = figure.subplots()
    for place, row in enumerate(rows):
        _bar(panel, place, row)
    panel.set_yticks(range(len(rows)), [row.title for row in rows], fontsize=8)
    panel.invert_yaxis()
    panel.margins(x=0.25)
    panel.set_xlabel("ms a picture: median, 10th to 90th percentile; black: this GPU's limit")
    title = f"{report.model}: a new prompt for each picture, host to host.\n{measured_on(report)}"
    figure.suptitle(title, fontsize=10)
    figure.savefig(path, dpi=110, metadata=metadata)


def _bar(panel: Any, place: int, row: CudaRow) -> None:
    ms, pictures = row.ms, row.batch or 1
    panel.barh(place, ms.median / pictures, color=_colour(row.name), height=0.7)
    panel.plot([ms.p10 / pictures, ms.p90 / pictures], [place, place], color="0.3", linewidth=1)
    text = f" {ms.median / pictures:.1f}"
    if row.share is not None:
        limit = row.share.compute_limit_ms / pictures
        panel.plot([limit, limit], [place - 0.45, place + 0.45], color="black", linewidth=2)
        text += f" ({row.share.share_of_compute_limit_percent:.0f} % of the limit)"
    panel.annotate(text, (max(ms.median, ms.p90) / pictures, place), va="center", fontsize=8)


def _colour(name: str) -> str:
    for part, colour in (("graph", "tab:blue"), ("eager", "0.6"), ("torch.compile", "tab:purple")):
        if part in name.lower():
            return colour
    return "tab:orange"
