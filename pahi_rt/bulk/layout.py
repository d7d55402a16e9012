"""The names in a run's folder, which are img2dataset's: 00000.tar, 00000.parquet, 00000_stats.json."""

from __future__ import annotations

import re
from collections.abc import Iterable

RECORD = "bulk.json"
"""What decides the run's bytes; without it, a folder is not ours."""
CARD = "README.md"
_OURS = re.compile(r"(\d{5,})(\.tar|\.parquet|_stats\.json|)")
_STATS = re.compile(r"(\d{5,})_stats\.json")


def shard_name(shard: int) -> str:
    """The name of a shard's folder, and the beginning of the names of its files."""
    return f"{shard:05d}"


def stats_name(shard: int) -> str:
    """The file that says that a shard is whole. It is written last."""
    return f"{shard_name(shard)}_stats.json"


def shard_of_stats(name: str) -> int | None:
    """The shard whose stats have this name; None for any other name."""
    found = _STATS.fullmatch(name)
    return int(found[1]) if found else None


def whole_shards(names: Iterable[str]) -> list[int]:
    """The shards whose stats are among these names."""
    return [shard for name in names if (shard := shard_of_stats(name)) is not None]


def shard_of(name: str) -> int:
    """The shard that an entry of this name belongs to; -1 for any other name."""
    found = _OURS.fullmatch(name)
    return int(found[1]) if found else -1


def is_ours(name: str) -> bool:
    """Whether a run's folder holds an entry of this name."""
    return name in (RECORD, CARD) or _OURS.fullmatch(name) is not None


def picture_key(shard: int, index: int, samples_per_shard: int) -> str:
    """The key of a picture: its shard and its place there, from 0, with img2dataset's number of digits."""
    return f"{shard_name(shard)}{index:0{len(str(max(samples_per_shard - 1, 1)))}d}"
