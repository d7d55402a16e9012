"""Hands shards to a crew, until all are whole: those of lost workers again, unless one shard has cost too many."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator

from pahi_rt.bulk.artist import Task
from pahi_rt.bulk.crew import Crew, Event, Finished, Lost, Ready
from pahi_rt.errors import RunError

LOSSES = 5
"""Workers that may be lost over one shard; and for each that was ever ready, those that may be lost while they start.

Three were too few: `pahi-rt bench shards`, with machines that may be taken away, lost as many over one good shard. A
cluster may lose many that are just starting.
"""
_PATIENCE = 0.5
"""Seconds after which `on_wait` is called again."""


def hand_out(
    first: Task, others: Iterator[Task], crew: Crew, on_event: Callable[[Event], None], on_wait: Callable[[], None]
) -> None:
    """Give shards to idle workers until none is left, and those of lost workers again.

    Raises RunError if workers are lost again and again, and what a worker could not go on from.
    """
    waiting, given, losses = [first], 0, _Losses()
    while waiting or given:
        while waiting and crew.idle:
            crew.give(waiting.pop())
            given += 1
            if not waiting and (task := next(others, None)):
                waiting.append(task)
        for event in crew.wait(_PATIENCE):
            losses.count(event, given)
            if isinstance(event, Finished):
                given -= 1
            elif isinstance(event, Lost) and event.task:
                given -= 1
                waiting.append(event.task)
            on_event(event)
        on_wait()


class _Losses:
    """Counts lost workers by their shard, and those that were starting while nothing was drawn."""

    def __init__(self) -> None:
        self._of: Counter[int | None] = Counter()
        self._ready = 0

    def count(self, event: Event, given: int) -> None:
        """Count an event, while workers have `given` shards.

        Raises RunError if one shard has cost too many workers, or if too many in a row never came to have one.
        """
        if not isinstance(event, Lost):
            self._ready += isinstance(event, Ready)
            self._of[None] = 0
            return
        shard = event.task.shard if event.task else None
        if shard is None and given:
            return  # others draw meanwhile
        self._of[shard] += 1
        most = LOSSES * max(1, self._ready) if shard is None else LOSSES
        if self._of[shard] == most:
            where = "before it was ready" if shard is None else f"over shard {shard}"
            fix = "see the system's log: memory is a usual reason, and --processes-count 1 takes the least"
            raise RunError(f"a worker was lost {where}, {most} times: {event.reason}", fix=fix)
