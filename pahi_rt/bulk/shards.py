"""Rows -> shards: which are whole, which are to be drawn, and whether the whole ones still fit the input."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice, repeat

from pahi_rt.bulk.artist import Task
from pahi_rt.bulk.layout import shard_of_stats
from pahi_rt.bulk.record import IncrementalMode, Part
from pahi_rt.bulk.rows import Row, digest
from pahi_rt.bulk.settings import Settings
from pahi_rt.bulk.stats import Stats, read_stats
from pahi_rt.bulk.store import Store
from pahi_rt.errors import RunError


@dataclass(frozen=True)
class Done:
    """What is kept of the stats of a shard that is whole."""

    rows_sha256: str
    successes: int
    failed: int

    @classmethod
    def of(cls, stats: Stats) -> Done:
        """The shard that these are the stats of."""
        return cls(stats.rows_sha256, stats.successes, stats.failed)


def find_done(store: Store, settings: Settings) -> dict[int, Done]:
    """The shards that are whole. Raises as `read_all_stats` does."""
    return {one.shard: Done.of(one) for one in read_all_stats(store, settings)}


def read_all_stats(store: Store, settings: Settings) -> Iterator[Stats]:
    """The stats of all shards that are whole.

    Raises RunError for those that cannot be read, or are of a run with other settings, and OutputError.
    """
    names = [name for name in store.names() if shard_of_stats(name) is not None]
    return map(read_stats, store.read_all(names), names, repeat(settings))


def plan(
    rows: Iterable[Row],
    part: Part,
    rows_per_shard: int,
    done: Mapping[int, Done],
    retry_failed: bool,
    mode: IncrementalMode = "incremental",
) -> Iterator[Task | Done]:
    """Shard by shard: what is there already, or what is to be drawn.

    Raises RunError if the rows of a shard that is whole are not those that it was made from. With `retry_failed`, a
    shard with failed rows is a task: its input may have been mended.
    """
    source = iter(rows)
    shard = part.first_shard
    while chunk := tuple(islice(source, rows_per_shard)):
        found = done.get(shard)
        if found is None:
            yield Task(shard, chunk)
        elif retry_failed and found.failed:
            yield Task(shard, chunk, is_retry=True)
        elif found.rows_sha256 != digest(chunk):
            raise _changed(chunk, shard, mode)
        else:
            yield found
        shard += 1


def _changed(rows: Sequence[Row], shard: int, mode: IncrementalMode) -> RunError:
    what = f"the rows {rows[0].id} to {rows[-1].id} are not those that shard {shard} was made from"
    taken = "give a new input another name, since this one is taken; to go on with the old one, restore it"
    mended = "restore the input, name another folder, or use --retry-failed if you mended rows that had failed"
    return RunError(what, fix=taken if mode == "extend" else mended)
