"""The plot of `pahi-rt bench shards`: how much longer a run takes by the size of its shards, and why."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pahi_rt.bench.figures import new_figure
from pahi_rt.bench.reports.shards import ShardsReport, ShardsRow

_COLOURS = ("tab:blue", "tab:orange", "tab:red")
_TICKS = (0.5, 1, 2, 5, 10, 20, 50)
_PARTS = {"waiting for a shard": "0.75", "work lost": "tab:red", "replacing workers": "tab:purple"}


def draw(report: ShardsReport, path: Path, metadata: Mapping[str, str | None]) -> None:
    """Write the plot, with `metadata` in the file. Raises PahiError without matplotlib."""
    figure = new_figure(11, 4.6)
    left, right = figure.subplots(1, 2)
    for colour, lifetime in zip(_COLOURS, report.lifetimes, strict=False):
        _line(left, [row for row in report.rows if row.lifetime_h == lifetime], colour, _name(lifetime))
    left.set_ylabel("longer than if nothing went wrong, %")
    left.set_yscale("log")
    left.set_yticks(_TICKS, [f"{tick:g}" for tick in _TICKS])
    left.legend(fontsize=8, title="workers live", title_fontsize=8)
    worst = report.lifetimes[-1]
    _stack(right, [row for row in report.rows if row.lifetime_h == worst])
    right.set_ylabel("share of all workers' time, %")
    right.set_title(f"where it goes, if workers live {_name(worst)}", fontsize=10)
    right.legend(fontsize=8, loc="upper left")
    ticks = sorted({row.shard_s for row in report.rows})
    for panel in (left, right):
        panel.set_xscale("log")
        panel.set_xticks(ticks, [f"{tick / 60:g}" for tick in ticks])
        panel.minorticks_off()
        panel.set_xlabel("minutes that a shard takes")
    cluster = report.cluster
    figure.suptitle(f"Simulated: {cluster.workers:,} workers, {cluster.hours:g} hours of work", fontsize=10)
    figure.savefig(path, dpi=110, metadata=metadata)


def _line(panel: Any, rows: Sequence[ShardsRow], colour: str, name: str) -> None:
    done = _finished(rows)
    panel.plot([row.shard_s for row in done], [row.longer_percent for row in done], "o-", color=colour, label=name)
    for row in rows:
        if row.ended:
            text = f"{row.ended} of {row.runs}\nended early"
            place = {"xycoords": ("data", "axes fraction"), "ha": "right", "va": "bottom"}
            panel.annotate(text, (row.shard_s, 0.03), color=colour, fontsize=8, **place)


def _stack(panel: Any, rows: Sequence[ShardsRow]) -> None:
    done = _finished(rows)
    values = zip(*((row.idle_percent, row.lost_percent, row.starting_percent) for row in done), strict=True)
    panel.stackplot([row.shard_s for row in done], *values, labels=list(_PARTS), colors=list(_PARTS.values()))


def _finished(rows: Sequence[ShardsRow]) -> list[ShardsRow]:
    """The rows with at least one run that came to its end."""
    return [row for row in rows if row.ended < row.runs]


def _name(lifetime: float | None) -> str:
    return "for ever" if lifetime is None else f"{lifetime:g} hours on average"
