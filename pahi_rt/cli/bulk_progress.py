"""Progress of `bulk`: one live line on a terminal, else a line now and then, or events as lines of JSON."""

from __future__ import annotations

import shutil
import sys
import threading
import time
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from pahi_rt.cli import messages
from pahi_rt.cli.pace import duration
from pahi_rt.cli.progress import SECONDS_ELSEWHERE, SECONDS_ON_A_TERMINAL
from pahi_rt.errors import PahiError

if TYPE_CHECKING:
    from pahi_rt.bulk.prompt_files import File
    from pahi_rt.bulk.shards import Done
    from pahi_rt.bulk.sources import Columns
    from pahi_rt.bulk.stats import Stats

_WINDOW = 60.0
"""Seconds whose pictures are the rate."""


class Counts:
    """What is known of a run's pictures. Those of the latest minute make the rate."""

    def __init__(self) -> None:
        self.shards = self.successes = self.failed = self.found = 0
        self.total: int | None = None
        """Pictures, failed ones included, that there will be; None until the input has been counted."""
        self._under_way: dict[int, int] = {}
        self._recent: deque[tuple[float, int]] = deque()

    @property
    def pictures(self) -> int:
        """Pictures so far, those of shards that are not whole yet included."""
        return self.successes + self.failed + sum(self._under_way.values())

    def found_shard(self, successes: int, failed: int) -> None:
        """Count a shard that was whole before."""
        self.found += successes + failed
        self._add(successes, failed)

    def drawn(self, shard: int, count: int) -> None:
        """Count pictures of a shard that is not whole yet."""
        self._under_way[shard] = self._under_way.get(shard, 0) + count

    def whole(self, shard: int, successes: int, failed: int) -> None:
        """Count a shard that has become whole."""
        self._under_way.pop(shard, None)
        self._add(successes, failed)

    def lost(self, shard: int | None) -> None:
        """Forget the pictures of a shard whose worker is gone."""
        if shard is not None:
            self._under_way.pop(shard, None)

    def _add(self, successes: int, failed: int) -> None:
        self.shards += 1
        self.successes += successes
        self.failed += failed

    def rate(self, now: float) -> float | None:
        """Pictures a second over the latest minute; None at the start."""
        self._recent.append((now, self.pictures - self.found))
        while now - self._recent[0][0] > _WINDOW:
            self._recent.popleft()
        (begun, before), (ended, after) = self._recent[0], self._recent[-1]
        return (after - before) / (ended - begun) if ended > begun and after > before else None

    def left(self, rate: float | None) -> float | None:
        """Seconds that the rest takes; None as long as nobody knows."""
        return None if rate is None or self.total is None else max(self.total - self.pictures, 0) / rate


class BulkProgress:
    """A Watch (pahi_rt.bulk.job) that prints the progress."""

    def __init__(self, count: int, *, as_json: bool) -> None:
        self.counts = Counts()
        self._count = count
        self._as_json = as_json
        self._live = sys.stderr.isatty() and not as_json
        self._pause = SECONDS_ON_A_TERMINAL if self._live else SECONDS_ELSEWHERE
        self._said = time.monotonic()
        self._shown = False

    def begin(self, files: Sequence[File], columns: Columns, done: int) -> None:
        """Begin to count the input beside the drawing, for the time that is left."""
        self._event("begin", files=[file.url for file in files], shards=done)
        if done and not self._as_json:
            messages.note(f"going on with {messages.counted(done, 'whole shard')}")
        threading.Thread(target=self._count_input, args=(files, columns), daemon=True).start()

    def found(self, done: Done) -> None:
        """Count a shard that was whole before."""
        self.counts.found_shard(done.successes, done.failed)

    def pictures(self, shard: int, count: int) -> None:
        """Count pictures of a shard."""
        self.counts.drawn(shard, count)

    def shard(self, stats: Stats) -> None:
        """Count a shard that has become whole."""
        self.counts.whole(stats.shard, stats.successes, stats.failed)
        facts = {"shard": stats.shard, "successes": stats.successes, "failed": stats.failed}
        self._event("shard", **facts, seconds=round(stats.duration, 3))

    def lost(self, shard: int | None, reason: str) -> None:
        """Tell that a worker is gone."""
        self.counts.lost(shard)
        self._event("lost", shard=shard, reason=reason)
        if not self._as_json:
            self.clear()
            messages.note(f"a worker is gone and is replaced: {reason}")

    def tick(self) -> None:
        """Show the progress, unless the last line is too recent."""
        now = time.monotonic()
        if now - self._said < self._pause:
            return
        self._said = now
        rate = self.counts.rate(now)
        if self._as_json:
            self._event("progress", **self._facts(rate))
        elif self._live:
            self.clear()
            messages.show_live(self._line(rate)[: shutil.get_terminal_size().columns - 1])
            self._shown = True
        else:
            messages.say(self._line(rate))

    def clear(self) -> None:
        """Remove the live line."""
        if self._shown:
            messages.clear_live()
            self._shown = False

    def end(self, **facts: Any) -> None:
        """The last event."""
        self._event("end", **facts)

    def _facts(self, rate: float | None) -> dict[str, Any]:
        counts, left = self.counts, self.counts.left(rate)
        return {
            "pictures": counts.pictures,
            "total": counts.total,
            "failed": counts.failed,
            "shards": counts.shards,
            "pictures_per_second": rate and round(rate, 3),
            "seconds_left": left and round(left),
        }

    def _line(self, rate: float | None) -> str:
        counts, left = self.counts, self.counts.left(rate)
        of = f" of {counts.total}" if counts.total else ""
        speed = "" if rate is None else f", {rate:.3g}/s"
        rest = "" if left is None else f", {duration(left)} left"
        return f"{counts.pictures}{of} pictures, {counts.failed} failed, {counts.shards} shards{speed}{rest}"

    def _count_input(self, files: Sequence[File], columns: Columns) -> None:
        from pahi_rt.bulk.sources import count_rows

        with suppress(PahiError):  # the reader that draws meets it too, and says so
            self.counts.total = count_rows(files, columns) * self._count

    def _event(self, name: str, **facts: Any) -> None:
        if self._as_json:
            messages.result(messages.to_json({"event": name, **facts}))
