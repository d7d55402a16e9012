"""The simulation of many workers, on a few."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from pahi_rt.bench import plots
from pahi_rt.bench.markdown import TABLES
from pahi_rt.bench.reports.shards import Cluster, ShardsRow
from pahi_rt.bench.shards import simulate

EQUAL = Cluster(workers=20, hours=1.0, speed_sigma=0.0, stragglers_percent=0.0, driver_us_per_row=0.0)


def row(cluster: Cluster, shard_s: float, lifetime_h: float | None = None) -> ShardsRow:
    return simulate(cluster, 2, (shard_s,), (lifetime_h,)).rows[0]


def test_equal_workers_that_last_take_as_long_as_the_work() -> None:
    one = row(EQUAL, 60.0)
    assert one.shards == 20 * 60 and one.pictures == 600
    assert 0 <= one.longer_percent < 0.2
    assert (one.lost_percent, one.starting_percent, one.ended) == (0, 0, 0)


def test_a_straggler_is_waited_for() -> None:
    slow = Cluster(workers=20, hours=1.0, stragglers_percent=20.0)
    short, long = row(slow, 10.0), row(slow, 600.0)
    assert long.longer_percent > 10 * short.longer_percent
    assert long.idle_percent > 10 > short.idle_percent


def test_lost_work_grows_with_the_shard_until_a_run_ends() -> None:
    short, long, too_long = (row(EQUAL, seconds, 1.0) for seconds in (30.0, 300.0, 3600.0))
    assert 0 < short.lost_percent < long.lost_percent
    assert short.starting_percent == pytest.approx(100 * 60 / 3660, abs=0.8)  # a minute for each hour of life
    assert short.ended == 0 and too_long.ended == too_long.runs and too_long.longer_percent == 0


def test_a_driver_that_is_too_slow_holds_all_up() -> None:
    busy = row(Cluster(workers=20, hours=0.1, driver_us_per_row=10_000.0), 30.0)
    assert busy.driver_percent > 90 and busy.longer_percent > 90


def test_a_report_becomes_a_table_and_a_plot(tmp_path: Path) -> None:
    report = simulate(EQUAL, 2, (60.0, 3600.0), (None, 1.0))
    assert report == simulate(EQUAL, 2, (60.0, 3600.0), (None, 1.0))
    lines = TABLES["shards"](report.to_dict()).splitlines()
    assert lines[2].startswith("| for ever | 1 min | 1,200 | 0.") and "| 2 of 2 ended early |" in lines[5]
    plots.draw(report.to_dict(), tmp_path / "plot.png", "digest")
    with Image.open(tmp_path / "plot.png") as image:
        assert len(image.convert("RGB").getcolors(1 << 24) or ()) > 20
