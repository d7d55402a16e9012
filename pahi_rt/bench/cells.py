"""What all tables in Markdown are made of."""

from __future__ import annotations

from collections.abc import Sequence

from pahi_rt.bench.reports.report import Report


def table(head: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(map(str, line)) + " |" for line in lines)


def hardware(report: Report) -> str:
    """The line under each table: where it was measured, and the command that measures it again."""
    return f"{measured_on(report)}: `{report.command}`."


def measured_on(report: Report) -> str:
    """Where a report was measured, and whether other work disturbed it."""
    busy = "; the machine was busy" if report.busy else ""
    return f"On {report.machine.title}{busy}"
