"""Hands shards to a crew, until all are whole: those of lost workers again, unless one shard has cost too many."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator

from pahi_rt.bulk.artist import Task
from pahi_rt.bulk.crew import Crew, Event, Finished, Lost, Ready
from pahi_rt.errors import RunError

LOSSES = 5
"""Workers that may be lost over one shard, or before any was ready.

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
            losses.count(event)
            if isinstance(event, Finished):
                given -= 1
            elif isinstance(event, Lost) and event.task:
                given -= 1
                waiting.append(event.task)
            on_event(event)
        on_wait()


class _Losses:
    """Counts lost workers by their shard."""

    def __init__(self) -> None:
        self._of: Counter[int | None] = Counter()
        self._was_ready = False

    def count(self, event: Event) -> None:
        """Raises RunError if one shard, or what precedes all of them, has cost too many workers."""
        if isinstance(event, Ready):
            self._was_ready = True
        elif isinstance(event, Lost):
            shard = event.task.shard if event.task else None
            self._of[shard] += 1
            if self._of[shard] == LOSSES and not (shard is None and self._was_ready):
                where = "before it was ready" if shard is None else f"over shard {shard}"
                fix = "see the system's log: memory is a usual reason, and --processes-count 1 takes the least"
                raise RunError(f"a worker was lost {where}, {LOSSES} times: {event.reason}", fix=fix)
