"""The straight line of `pahi-rt bulk`: rows -> shards -> crew -> store."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from pahi_rt.bulk.artist import Task
from pahi_rt.bulk.card import write_card
from pahi_rt.bulk.crew import Crew, Drawn, Event, Finished, Job, Ready
from pahi_rt.bulk.dispatch import hand_out
from pahi_rt.bulk.prompt_files import File
from pahi_rt.bulk.record import IncrementalMode, Part, RunRecord, begin, end_part, make_maker, new_record, settle_maker
from pahi_rt.bulk.settings import Settings
from pahi_rt.bulk.shards import Done, find_done, plan
from pahi_rt.bulk.sources import Columns, read_rows
from pahi_rt.bulk.stats import Stats
from pahi_rt.bulk.store import Store
from pahi_rt.errors import PromptError

MakeCrew = Callable[[], Crew]


class Watch(Protocol):
    """Is told how a run gets on."""

    def begin(self, files: Sequence[File], columns: Columns, done: int) -> None:
        """The run begins, or goes on with `done` shards that are whole."""

    def found(self, done: Done) -> None:
        """A shard is whole already."""

    def pictures(self, shard: int, count: int) -> None:
        """Pictures of a shard that is not whole yet."""

    def shard(self, stats: Stats) -> None:
        """A shard has become whole."""

    def lost(self, shard: int | None, reason: str) -> None:
        """A worker is gone; its shard is drawn again."""

    def tick(self) -> None:
        """Some time has passed."""


@dataclass(frozen=True)
class Outcome:
    """What is there at the end."""

    record: RunRecord
    shards: int
    """Number of shards that this input makes."""
    successes: int
    failed: int


class Run:
    """One run over one input, which has begun or goes on; `finish` does the rest.

    Raises RunError if another run is in the store, and OutputError if anything else is.
    """

    def __init__(
        self, files: Sequence[File], store: Store, job: Job, mode: IncrementalMode, retry_failed: bool
    ) -> None:
        self._files = files
        self._store = store
        self._job = job
        self._retry_failed = retry_failed
        self._columns = columns_of(job.settings)
        self._mode: IncrementalMode = mode
        self.record, self.part = self._begin()
        self._shards = self._successes = self._failed = 0

    def _begin(self) -> tuple[RunRecord, Part]:
        self._store.prepare()
        types = {name: str(kind) for name, kind in self._job.additional.items()}
        asked = new_record(self._job.bundle, self._job.settings, types, [file.name for file in self._files])
        return begin(self._store, asked, self._mode)

    def finish(self, make_crew: MakeCrew, watch: Watch) -> Outcome:
        """Draw every shard that is not whole. The crew is made when the first one is found, and dismissed at the end.

        Raises RunError if the input or what draws has changed, OutputError, and what loading and drawing raise.
        """
        done = find_done(self._store, self._job.settings)
        watch.begin(self._files, self._columns, len(done))
        self._draw(self._plan(done, watch), make_crew, watch)
        if not self._shards:
            raise PromptError("there is no row in the input", fix="write a prompt on each line, or each row")
        self.record = end_part(self._store, self.record, self.part, self._shards, done)
        write_card(self._store, self.record)
        return Outcome(self.record, self._shards, self._successes, self._failed)

    def _plan(self, done: dict[int, Done], watch: Watch) -> Iterator[Task]:
        rows = read_rows(self._files, self._columns)
        size = self._job.settings.rows_per_shard
        for step in plan(rows, self.part, size, done, self._retry_failed, self._mode):
            self._shards += 1
            if isinstance(step, Task):
                yield step
            else:
                self._count(step.successes, step.failed)
                watch.found(step)

    def _draw(self, tasks: Iterator[Task], make_crew: MakeCrew, watch: Watch) -> None:
        first = next(tasks, None)
        if first is None:
            return
        crew = make_crew()
        try:
            hand_out(first, tasks, crew, lambda event: self._note(event, watch), watch.tick)
        finally:
            crew.dismiss()
            self._store.tidy()

    def _note(self, event: Event, watch: Watch) -> None:
        if isinstance(event, Ready):
            self.record = settle_maker(self._store, self.record, make_maker(event.description))
        elif isinstance(event, Drawn):
            watch.pictures(event.shard, event.pictures)
        elif isinstance(event, Finished):
            self._count(event.stats.successes, event.stats.failed)
            watch.shard(event.stats)
        else:
            watch.lost(event.task.shard if event.task else None, event.reason)

    def _count(self, successes: int, failed: int) -> None:
        self._successes += successes
        self._failed += failed


def columns_of(settings: Settings) -> Columns:
    """The columns of the input that are read."""
    return Columns(settings.caption_col, settings.id_col, settings.seed_col, settings.save_additional_columns)
