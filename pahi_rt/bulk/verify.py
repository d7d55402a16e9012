"""Verify a run: every shard is there, and pictures chosen at random are drawn again and compared."""

from __future__ import annotations

import hashlib
import io
import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any, Literal

import numpy as np
from PIL import Image

from pahi_rt.bulk.artist import draw_batch
from pahi_rt.bulk.earlier import Earlier
from pahi_rt.bulk.encode import is_lossless
from pahi_rt.bulk.record import RunRecord
from pahi_rt.bulk.seeds import row_seed
from pahi_rt.bulk.settings import Settings
from pahi_rt.bulk.shards import Done, read_all_stats
from pahi_rt.bulk.store import ANEW, Store
from pahi_rt.errors import RunError
from pahi_rt.pipeline import Pipeline

Verdict = Literal["equal", "within one level", "different", "damaged"]


@dataclass(frozen=True)
class Checked:
    """One picture that was drawn again."""

    shard: int
    key: str
    verdict: Verdict
    """"damaged": the stored file is not the one that its sha256 was taken of."""


def check_complete(store: Store, record: RunRecord) -> dict[int, Done]:
    """The shards of a run. Raises RunError if one is missing or lacks a file, or if the input was not read to its end.

    Of files only the size is compared, so that a run of any size is checked soon.
    """
    sizes, done, bad = store.sizes(), dict[int, Done](), list[int]()
    for one in read_all_stats(store, record.settings):
        done[one.shard] = Done.of(one)
        if any(sizes.get(name) != size for name, size in one.sizes.items()):
            bad.append(one.shard)
    fix = "give the command of `bulk` again, without overwrite: it goes on where it was"
    for part in record.parts:
        if part.shards is None:
            raise RunError(f"{store.url} is not finished; shards that are whole: {len(done)}", fix=fix)
        missing = [shard for shard in range(part.first_shard, part.first_shard + part.shards) if shard not in done]
        if missing:
            raise RunError(f"{store.url} lacks these shards: {_spans(missing)}", fix=fix)
    if bad:
        what = f"files of these shards in {store.url} are missing or damaged: {_spans(bad)}"
        raise RunError(what, fix=f"restore them, or {ANEW}")
    return done


def _spans(numbers: Sequence[int]) -> str:
    """Ascending numbers in words, such as "1, 4-7"."""
    groups = groupby(enumerate(numbers), key=lambda pair: pair[1] - pair[0])
    spans = ([number for _, number in group] for _, group in groups)
    return ", ".join(f"{span[0]}-{span[-1]}" if len(span) > 1 else str(span[0]) for span in spans)


def choose_pictures(done: Mapping[int, Done], k: int, seed: int) -> list[tuple[int, int]]:
    """`k` pictures at random, all if there are fewer: (shard, number among those of the shard that were drawn)."""
    shards = sorted(done)
    ends = np.cumsum([done[shard].successes for shard in shards])
    total = int(ends[-1]) if len(ends) else 0
    chosen = sorted(random.Random(seed).sample(range(total), min(k, total)))
    places = np.searchsorted(ends, chosen, side="right")
    starts = [0, *ends.tolist()]
    return [(shards[place], number - starts[place]) for place, number in zip(places, chosen, strict=True)]


def check_pictures(
    store: Store, settings: Settings, pipeline: Pipeline, chosen: Sequence[tuple[int, int]]
) -> Iterator[Checked]:
    """Draw the chosen pictures again, one at a time, and compare. Raises OutputError for what cannot be read."""
    for shard, group in groupby(chosen, key=lambda one: one[0]):
        with Earlier(store, shard, settings) as earlier:
            for _, number in group:
                row = earlier.rows[number]
                yield Checked(shard, row["key"], _compare(earlier.image(row["key"]), row, settings, pipeline))


def _has_its_seed(row: dict[str, Any], settings: Settings) -> bool:
    """Whether a picture's seed is one of its row's, as far as its id tells."""
    first = row_seed(settings.seed, row["id"])
    return settings.seed_col is not None or first <= row["seed"] < first + (settings.candidates or settings.count)


def _compare(stored: bytes, row: dict[str, Any], settings: Settings, pipeline: Pipeline) -> Verdict:
    if hashlib.sha256(stored).hexdigest() != row["sha256"]:
        return "damaged"
    if not _has_its_seed(row, settings):
        return "different"
    encoded = pipeline.tokenizer.encode([row["caption"]])
    (drawn,) = draw_batch(pipeline, settings, [encoded.input_ids[0]], [row["seed"]])
    if hashlib.sha256(drawn.tobytes()).hexdigest() == row["pixels_sha256"]:
        return "equal"
    if not is_lossless(settings.encode_format, settings.encode_quality):
        return "different"
    with Image.open(io.BytesIO(stored)) as image:
        before = np.asarray(image.convert("RGB"), np.int16)
    return "within one level" if np.abs(before - np.asarray(drawn, np.int16)).max() <= 1 else "different"
