"""A run of `bulk` in this process, on the contract bundle, with a runtime that needs no model."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pahi_rt import FakeRuntime, Pipeline, open_bundle
from pahi_rt.bulk.artist import Artist, Task
from pahi_rt.bulk.crew import Event, Finished, Job, Ready
from pahi_rt.bulk.job import Outcome, Run, columns_of
from pahi_rt.bulk.prompt_files import File, find_files
from pahi_rt.bulk.record import IncrementalMode
from pahi_rt.bulk.seeds import SEED_RULE
from pahi_rt.bulk.settings import Settings, check_settings
from pahi_rt.bulk.shards import Done
from pahi_rt.bulk.sources import Columns, additional_types
from pahi_rt.bulk.stats import Stats
from pahi_rt.bulk.store import open_store
from pahi_rt.bundle import Bundle

Bulk = Callable[..., Outcome]


class InlineCrew:
    """One worker, in this process."""

    def __init__(self, artist: Artist) -> None:
        self._artist = artist
        self._events: list[Event] = [Ready(FakeRuntime(32, 32).describe())]
        self._is_ready = False
        self.drawn: list[int] = []

    @property
    def idle(self) -> int:
        return int(self._is_ready and not self._events)

    def give(self, task: Task) -> None:
        self.drawn.append(task.shard)
        self._events.append(Finished(self._artist.draw(task)))

    def wait(self, seconds: float) -> Sequence[Event]:
        self._is_ready = True
        events, self._events = self._events, []
        return events

    def dismiss(self) -> None:
        pass


class Silent:
    """A watch that only remembers the shards."""

    def __init__(self) -> None:
        self.found_shards = 0
        self.losses: list[str] = []

    def begin(self, files: Sequence[File], columns: Columns, done: int) -> None: ...

    def found(self, done: Done) -> None:
        self.found_shards += 1

    def pictures(self, shard: int, count: int) -> None: ...

    def shard(self, stats: Stats) -> None: ...

    def lost(self, shard: int | None, reason: str) -> None:
        self.losses.append(reason)

    def tick(self) -> None: ...


def plain_settings(bundle: Bundle, **changes: Any) -> Settings:
    """PNG files in webdataset's shards of four rows, without a prior; `changes` replace settings."""
    plain = Settings(
        bundle_sha256=bundle.sha256,
        steps=1,
        prior="gaussian",
        prior_strength=0.0,
        precision=bundle.choose_precision(),
        seed=0,
        seed_rule=SEED_RULE,
        count=1,
        batch_size=1,
        output_format="webdataset",
        encode_format="png",
        encode_quality=None,
        number_sample_per_shard=4,
        caption_col=None,
        id_col=None,
        seed_col=None,
        save_additional_columns=(),
    )
    return replace(plain, **changes)


@pytest.fixture(scope="session")
def settings(contract: Path) -> Settings:
    return plain_settings(open_bundle(contract))


@pytest.fixture(scope="session")
def fake(contract: Path) -> Pipeline:
    return Pipeline(open_bundle(contract), FakeRuntime(32, 32))


@pytest.fixture
def bulk(contract: Path, settings: Settings, fake: Pipeline) -> Bulk:
    """Draws PROMPTS into OUT; further arguments replace settings. `crew.drawn` of the last one says which shards."""

    def draw(
        prompts: str | Path,
        output: str | Path,
        mode: IncrementalMode = "incremental",
        retry_failed: bool = False,
        **changes: Any,
    ) -> Outcome:
        chosen = replace(settings, **changes)
        check_settings(chosen)
        files, store = find_files(str(prompts)), open_store(str(output))
        additional = additional_types(files, columns_of(chosen))
        job = Job(str(contract), "fake", 1, store.url, chosen, additional)
        crew = InlineCrew(Artist(fake, store, chosen, additional))
        outcome = Run(files, store, job, mode, retry_failed).finish(lambda: crew, Silent())
        draw.drawn = crew.drawn  # type: ignore[attr-defined]
        return outcome

    return draw


@pytest.fixture
def prompts(tmp_path: Path) -> Path:
    """Ten rows, so three shards of four."""
    path = tmp_path / "prompts.txt"
    path.write_text("".join(f"a red apple {number}\n" for number in range(10)))
    return path


def contents(folder: Path) -> dict[str, str]:
    """File -> hash of all that decides a run's result: everything but stats, which hold times."""
    found = {str(path.relative_to(folder)): path for path in sorted(folder.rglob("*")) if path.is_file()}
    return {
        name: hashlib.sha256(path.read_bytes()).hexdigest()
        for name, path in found.items()
        if not name.endswith("_stats.json")
    }
