from __future__ import annotations

from pahi_rt.cli.bulk_progress import Counts


def test_rate_and_time_left() -> None:
    counts = Counts()
    counts.found_shard(100, 0)
    assert counts.rate(0.0) is None
    counts.drawn(1, 5)
    counts.drawn(1, 5)
    assert counts.rate(2.0) == 5
    assert counts.left(5.0) is None
    counts.total = 200
    assert counts.left(5.0) == 18
    counts.whole(1, 19, 1)
    assert (counts.pictures, counts.failed, counts.shards) == (120, 1, 2)
    assert counts.rate(4.0) == 5


def test_only_the_latest_minute_counts() -> None:
    counts = Counts()
    for second in range(0, 200, 10):
        counts.drawn(0, 10 if second < 100 else 100)
        rate = counts.rate(float(second))
    assert rate == 10


def test_pictures_of_a_lost_worker_are_forgotten() -> None:
    counts = Counts()
    counts.drawn(3, 7)
    counts.lost(3)
    counts.lost(None)
    assert counts.pictures == 0
