"""What a terminal shows of each report: the machine, then a table."""

from __future__ import annotations

from pathlib import Path

import pytest

from pahi_rt.bench import text
from tests.bench.test_reports import RESULTS, read


@pytest.mark.parametrize("path", sorted(RESULTS.glob("*/*.json")), ids=lambda path: path.stem)
def test_a_report_is_shown_with_its_machine(path: Path) -> None:
    name, report = read(path)
    lines = getattr(text, name)(report)
    assert any(report.machine.title in line for line in lines[:2])
    assert not any("None" in line for line in lines)


def test_columns_are_aligned() -> None:
    _, report = read(RESULTS / "amd-epyc-avx2-2-cores" / "emoji-latency.json")
    assert text.latency(report) == [
        "on AMD EPYC (avx2), 2 cores",
        "emoji       median ms  p10    p90",
        "one step    30.2       26.2   39.9",
        "two steps   39.7       34.9   50.9",
        "cold start  654.1      600.5  733.0",
    ]
