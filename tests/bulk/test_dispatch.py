"""The loop that hands out shards: what happens to those of lost workers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import pytest

from pahi_rt.bulk.artist import Task
from pahi_rt.bulk.crew import Event, Finished, Lost, Ready
from pahi_rt.bulk.dispatch import LOSSES, hand_out
from pahi_rt.bulk.stats import Stats
from pahi_rt.errors import RunError

READY = Ready({"runtime": "scripted"})


class ScriptedCrew:
    """One worker, which is lost over the shards in `losses`, as often as each is there."""

    def __init__(self, losses: Sequence[int], start: Sequence[Event] = (READY,)) -> None:
        self._losses = list(losses)
        self._events = list(start)
        self.given: list[int] = []
        self.idle = 0

    def give(self, task: Task) -> None:
        self.given.append(task.shard)
        self.idle -= 1
        if task.shard in self._losses:
            self._losses.remove(task.shard)
            self._events += [Lost(task, "scripted"), READY]
        else:
            self._events.append(Finished(Stats(task.shard, 0, 0, 0, 0, {}, (), "", "", {}, {}, 0.0, 0.0, 0.0)))

    def wait(self, seconds: float) -> Sequence[Event]:
        event = self._events.pop(0)
        self.idle += not isinstance(event, Lost)
        return [event]

    def dismiss(self) -> None: ...


def run(crew: ScriptedCrew, shards: int) -> list[int]:
    """The shards that became whole, in their order."""
    whole: list[int] = []

    def note(event: Event) -> None:
        if isinstance(event, Finished):
            whole.append(event.stats.shard)

    tasks: Iterator[Task] = (Task(shard, ()) for shard in range(shards))
    hand_out(next(tasks), tasks, crew, note, lambda: None)
    return whole


def test_a_lost_workers_shard_goes_out_next() -> None:
    crew = ScriptedCrew(losses=[1, 1, 3])
    assert run(crew, 5) == [0, 1, 2, 3, 4]
    assert crew.given == [0, 1, 1, 1, 2, 3, 3, 4]


def test_too_many_losses_over_one_shard_end_the_run() -> None:
    crew = ScriptedCrew(losses=[2] * LOSSES)
    with pytest.raises(RunError, match="over shard 2") as caught:
        run(crew, 5)
    assert "--processes-count" in caught.value.fix
    assert crew.given == [0, 1, *[2] * LOSSES]


LOST = Lost(None, "scripted")


def test_workers_that_are_lost_while_they_start_end_a_run_if_none_draws() -> None:
    with pytest.raises(RunError, match=f"before it was ready, {LOSSES} times"):
        run(ScriptedCrew([], start=[LOST] * LOSSES), 1)
    assert run(ScriptedCrew([], start=[READY, *[LOST] * LOSSES]), 1) == [0]


def test_workers_that_are_lost_while_they_start_again_end_a_run_later() -> None:
    """Three were ready; then the one that draws is lost, and nobody comes back."""

    class Dying(ScriptedCrew):
        def give(self, task: Task) -> None:
            self.idle = -2  # none, when the two that are ready too have been heard
            self._events += [Lost(task, "scripted"), *[LOST] * (3 * LOSSES)]

    with pytest.raises(RunError, match=f"before it was ready, {3 * LOSSES} times"):
        run(Dying([], start=[READY] * 3), 1)
