"""The stats of a shard, 00000_stats.json: that it is whole, what is in it, and what failed."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import ClassVar

from pahi_rt.bulk.sample import Sample, clean
from pahi_rt.bulk.settings import Settings
from pahi_rt.errors import PahiError, RunError
from pahi_rt.record import Record


@dataclass(frozen=True)
class Failure(Record):
    """A picture that could not be drawn."""

    key: str
    id: str
    error_message: str


@dataclass(frozen=True)
class Stats(Record):
    """What is known of a shard that is whole. Those of img2dataset's names that apply mean the same."""

    read_error: ClassVar[type[PahiError]] = RunError
    read_fix: ClassVar[str] = "remove this file, and give the same command again: the shard is made anew"

    shard: int
    rows: int
    """Rows of the input."""
    count: int
    """Pictures, failed ones included."""
    successes: int
    failed: int
    status_dict: dict[str, int]
    """"success" or the reason of a failure -> pictures."""
    failures: tuple[Failure, ...]
    settings_sha256: str
    """Hash of the settings that it was drawn with."""
    rows_sha256: str
    """Hash of the rows that it was made from."""
    files: dict[str, str]
    """File of the shard -> sha256; those of a folder have theirs in the Parquet file."""
    sizes: dict[str, int]
    """File or folder of the shard -> bytes."""
    start_time: float
    end_time: float
    duration: float
    """Seconds."""


class Tally:
    """Counts the samples of a shard."""

    def __init__(self) -> None:
        self.status: dict[str, int] = {}
        self.failures: list[Failure] = []

    def add(self, sample: Sample) -> None:
        """Count one."""
        reason = sample.error_message
        status = "success" if reason is None else clean(reason)
        self.status[status] = self.status.get(status, 0) + 1
        if reason is not None:
            self.failures.append(Failure(sample.key, clean(sample.id), clean(reason)))

    @property
    def count(self) -> int:
        """Samples so far."""
        return sum(self.status.values())


def read_stats(raw: bytes, name: str, settings: Settings) -> Stats:
    """Read a stats file of a run with these settings. Raises RunError, also for a shard of other settings."""
    try:
        data = json.loads(raw)
    except ValueError as error:
        raise RunError(f"{name} is not JSON", fix=Stats.read_fix) from error
    stats = Stats.from_dict(data, name)
    if stats.settings_sha256 != settings.digest:
        raise RunError(f"{name} is of a run with other settings, in the same folder", fix=Stats.read_fix)
    return stats
