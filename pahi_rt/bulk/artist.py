"""The artist: draws the rows of a shard with one loaded pipeline, and puts the shard into the store."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pahi_rt.bulk.earlier import Earlier, picture_of
from pahi_rt.bulk.encode import ENDINGS, encode
from pahi_rt.bulk.formats import check_loadable, entries, open_writer, with_score
from pahi_rt.bulk.layout import picture_key, stats_name
from pahi_rt.bulk.rows import Row, digest
from pahi_rt.bulk.sample import Sample
from pahi_rt.bulk.seeds import row_seed
from pahi_rt.bulk.settings import Settings
from pahi_rt.bulk.stats import Stats, Tally, read_stats
from pahi_rt.bulk.store import Store, bytes_of
from pahi_rt.drawing import Choice, Drawing
from pahi_rt.errors import RequestError, RunError
from pahi_rt.files import sha256
from pahi_rt.judge import rank
from pahi_rt.noise import request_seeds
from pahi_rt.pipeline import Pipeline


@dataclass(frozen=True)
class Task:
    """A shard to draw."""

    shard: int
    rows: tuple[Row, ...]
    is_retry: bool = False
    """Whether it is there already, and only what failed is drawn."""


@dataclass(frozen=True)
class _Wanted:
    """A picture to draw, or one that cannot be drawn."""

    sample: Sample
    input_ids: NDArray[np.int64] | None


class Artist:
    """Draws shards. Its pictures do not depend on which shards it has drawn before."""

    def __init__(self, pipeline: Pipeline, store: Store, settings: Settings, additional: Mapping[str, Any]) -> None:
        self._pipeline = pipeline
        self._store = store
        self._settings = settings
        self._additional = with_score(additional) if settings.candidates else additional

    def draw(self, task: Task, on_pictures: Callable[[int], None] = lambda count: None) -> Stats:
        """Draw a shard and put it into the store. `on_pictures` is told of pictures as they are done.

        Raises OutputError if it cannot be written, RunError if a retry would lose a picture, and what Pipeline.draw
        raises.
        """
        started, tally = time.time(), Tally()
        kind, ending = self._settings.output_format, ENDINGS[self._settings.encode_format]
        with self._store.workshop(stats_name(task.shard)) as folder:
            with open_writer(kind, folder, task.shard, ending, self._additional) as writer:
                for sample in self._samples(task):
                    writer.add(sample)
                    tally.add(sample)
                    on_pictures(1)
            made = [folder / name for name in entries(kind, task.shard)]
            stats = _stats(task, self._settings, tally, made, started)
            (folder / stats_name(task.shard)).write_text(json.dumps(stats.to_dict(), indent=1))
            self._publish(task, [*made, folder / stats_name(task.shard)])
        return stats

    def _publish(self, task: Task, made: Sequence[Path]) -> None:
        """Put a shard's files into place, its stats last. Until then, a shard that is written again is not whole.

        Raises RunError if another run, with other settings, has made the same shard.
        """
        stats = made[-1].name
        if self._store.has(stats):
            if not task.is_retry:  # another run has just made the same
                read_stats(self._store.read(stats), stats, self._settings)
                return
            self._store.remove([stats])
        for path in made:
            self._store.publish(path)

    def _samples(self, task: Task) -> Iterator[Sample]:
        make = self._choose if self._settings.candidates else self._draw_each
        if not task.is_retry:
            yield from make(task, None)
            return
        with Earlier(self._store, task.shard, self._settings) as earlier:
            self._check_kept(task, earlier)
            yield from make(task, earlier)

    def _check_kept(self, task: Task, earlier: Earlier) -> None:
        """Raises RunError if the shard has a picture that its rows do not ask for: it would be lost."""
        count = self._settings.candidates or self._settings.count
        wanted = {picture_of(one.sample) for row in task.rows for one in self._pictures_of(row, count)}
        lost = next((row for picture, row in earlier.by_picture.items() if picture not in wanted), None)
        if lost is not None:
            what = f"shard {task.shard} has a picture of {lost['caption']!r} ({lost['id']}), which the input lacks now"
            raise RunError(what, fix="restore that row: --retry-failed is for rows that had failed")

    def _draw_each(self, task: Task, earlier: Earlier | None) -> Iterator[Sample]:
        find = earlier.find if earlier else lambda sample: None
        wanted = self._wanted(task)
        while batch := list(islice(wanted, self._settings.batch_size)):
            yield from self._draw_batch(batch, [find(one.sample) for one in batch])

    def _choose(self, task: Task, earlier: Earlier | None) -> Iterator[Sample]:
        """The samples of a shard whose pictures are chosen, row by row, the best first."""
        count, most = self._settings.count, self._settings.number_sample_per_shard
        for number, row in enumerate(task.rows):
            wanted = self._pictures_of(row, self._settings.candidates or count)
            known = earlier.find_chosen([one.sample for one in wanted]) if earlier else []
            chosen = known if len(known) == count else self._best_of(wanted)
            for place, sample in enumerate(chosen):
                yield replace(sample, key=picture_key(task.shard, number * count + place, most))

    def _best_of(self, wanted: list[_Wanted]) -> list[Sample]:
        """The best of a row's candidates; if they cannot be drawn or scored, as many that failed."""
        samples, ids = [one.sample for one in wanted], [one.input_ids for one in wanted]
        count, size = self._settings.count, self._settings.batch_size
        if ids[0] is None:
            return samples[:count]
        starts = range(0, len(samples), size)
        images = [image for s in starts for image in self._draw(samples[s : s + size], ids[s : s + size])]
        try:
            scores = self._pipeline.judge.score(images, [sample.caption for sample in samples])
        except RequestError as error:  # the scorer has a tokenizer of its own
            return [replace(sample, error_message=error.what, seed=None) for sample in samples[:count]]
        first = samples[0].seed or 0
        return [self._finish(replace(samples[i], score=scores[i]), images[i], first) for i in rank(scores, count)]

    def _draw_batch(self, batch: list[_Wanted], known: list[Sample | None]) -> Iterator[Sample]:
        """The samples of a batch: those that are known, those that failed, and the others drawn at once."""
        settled = [
            found or (one.sample if one.input_ids is None else None) for one, found in zip(batch, known, strict=True)
        ]
        drawn = [one for one, found in zip(batch, settled, strict=True) if found is None]
        images = iter(self._draw([one.sample for one in drawn], [one.input_ids for one in drawn]))
        for one, found in zip(batch, settled, strict=True):
            yield found or self._finish(one.sample, next(images))

    def _draw(self, samples: list[Sample], input_ids: list[Any]) -> list[Image.Image]:
        if not samples:
            return []
        return draw_batch(self._pipeline, self._settings, input_ids, [sample.seed or 0 for sample in samples])

    def _wanted(self, task: Task) -> Iterator[_Wanted]:
        index = 0
        for row in task.rows:
            for one in self._pictures_of(row, self._settings.count):
                key = picture_key(task.shard, index, self._settings.number_sample_per_shard)
                yield replace(one, sample=replace(one.sample, key=key))
                index += 1

    def _pictures_of(self, row: Row, count: int) -> list[_Wanted]:
        """So many pictures of a row, without their keys."""
        sample = Sample("", row.id, row.prompt, row.seed, row.problem, more=row.more)
        if row.problem is not None:
            return [_Wanted(sample, None)] * count
        try:
            encoded = self._pipeline.tokenizer.encode([row.prompt])
            first = row_seed(self._settings.seed, row.id) if row.seed is None else row.seed
            seeds = request_seeds(first, count)
            check_loadable(seeds[-1], self._settings.output_format)
        except RequestError as error:
            return [_Wanted(replace(sample, error_message=error.what), None)] * count
        sample = replace(sample, truncated=encoded.truncated[0])
        return [_Wanted(replace(sample, seed=seed), encoded.input_ids[0]) for seed in seeds]

    def _finish(self, sample: Sample, image: Image.Image, first_seed: int = 0) -> Sample:
        drawing = self._drawing(sample, first_seed)
        content = encode(image, drawing, self._settings.encode_format, self._settings.encode_quality)
        return replace(
            sample,
            image=content,
            sha256=hashlib.sha256(content).hexdigest(),
            pixels_sha256=hashlib.sha256(image.tobytes()).hexdigest(),
            width=image.width,
            height=image.height,
        )

    def _drawing(self, sample: Sample, first_seed: int) -> Drawing:
        seed = sample.seed or 0
        drawing = drawing_of(self._pipeline, self._settings, sample.caption, seed)
        if sample.score is None:
            return drawing
        scorer, candidates = self._settings.scorer or "", self._settings.candidates or 1
        return replace(drawing, choice=Choice(scorer, candidates, first_seed, (seed,), (sample.score,)))


def draw_batch(
    pipeline: Pipeline, settings: Settings, input_ids: Sequence[NDArray[np.int64]], seeds: Sequence[int]
) -> list[Image.Image]:
    """Draw pictures from token ids [T] each and seeds, one batch of them or less. Raises as Pipeline.draw does.

    The batch is filled up: graphs may round otherwise in a batch of another size, and where a shard ends, or a row that
    failed, must not change a picture.
    """
    missing = settings.batch_size - len(seeds)
    rows = np.stack([*input_ids, *[input_ids[-1]] * missing])
    filled = [*seeds, *[seeds[-1]] * missing]
    return pipeline.draw(rows, filled, [settings.prior_strength] * len(filled))[: len(seeds)]


def drawing_of(pipeline: Pipeline, settings: Settings, caption: str, seed: int) -> Drawing:
    """How one picture is drawn, as `pahi-rt generate` records it."""
    from pahi_rt import __version__

    return Drawing(
        prompts=(caption,),
        seed=seed,
        count=1,
        steps=settings.steps,
        bundle=pipeline.bundle.manifest.name,
        bundle_sha256=settings.bundle_sha256,
        version=__version__,
        prior=settings.prior,
        prior_strength=settings.prior_strength,
        precision=settings.precision,
    )


def _stats(task: Task, settings: Settings, tally: Tally, made: Sequence[Path], started: float) -> Stats:
    ended = time.time()
    return Stats(
        shard=task.shard,
        rows=len(task.rows),
        count=tally.count,
        successes=tally.count - len(tally.failures),
        failed=len(tally.failures),
        status_dict=tally.status,
        failures=tuple(tally.failures),
        settings_sha256=settings.digest,
        rows_sha256=digest(task.rows),
        files={path.name: sha256(path) for path in made if path.is_file()},
        sizes={path.name: bytes_of(path) for path in made},
        start_time=started,
        end_time=ended,
        duration=ended - started,
    )
