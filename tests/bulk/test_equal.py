"""Equal pictures: whatever the shard, the batch and the format, they are `Pipeline`'s, to the byte."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from pahi_rt import Pipeline, open_bundle
from pahi_rt.bulk.artist import Artist, Task
from pahi_rt.bulk.earlier import Earlier
from pahi_rt.bulk.rows import Row
from pahi_rt.bulk.settings import Settings
from pahi_rt.bulk.store import LocalStore

PROMPTS = ("a red apple", "a grinning cat", "two dog", "apple " * 40, "a blue cat")


def draw(
    folder: Path, settings: Settings, prompts: tuple[str, ...], out: Path, **changes: object
) -> dict[object, bytes]:
    """(prompt, seed) -> pixels, two pictures of each prompt, of which one fails."""
    bundle = open_bundle(folder)
    chosen = replace(settings, bundle_sha256=bundle.sha256, count=2, **changes)  # type: ignore[arg-type]
    pipeline = Pipeline.load(bundle, prior=chosen.prior, threads=1)
    store = LocalStore(out)
    store.prepare()
    rows = [Row(str(number), prompt, 7 * number) for number, prompt in enumerate(prompts)]
    Artist(pipeline, store, chosen, {}).draw(Task(0, (rows[0], Row("bad", ""), *rows[1:])))
    with Earlier(store, 0, chosen) as shard:
        files = {(row["caption"], row["seed"]): shard.image(row["key"]) for row in shard.rows}
    return {key: Image.open(io.BytesIO(file)).tobytes() for key, file in files.items()}


def expected(folder: Path, prompts: tuple[str, ...], prior: str) -> dict[object, bytes]:
    pipeline = Pipeline.load(folder, prior=prior, threads=1)
    return {
        (prompt, 7 * number + j): pipeline(prompt, seed=7 * number + j).tobytes()
        for number, prompt in enumerate(prompts)
        for j in range(2)
    }


@pytest.mark.parametrize("output_format", ["files", "webdataset", "parquet"])
@pytest.mark.parametrize("prior", ["pahi", "hi", "gaussian"])
def test_they_are_those_of_the_pipeline(
    contract_with_priors: Path, settings: Settings, tmp_path: Path, prior: str, output_format: str
) -> None:
    strength = 0.0 if prior == "gaussian" else 1.0
    changes = {"prior": prior, "prior_strength": strength, "output_format": output_format}
    found = draw(contract_with_priors, settings, PROMPTS, tmp_path / "out", **changes)
    assert found == expected(contract_with_priors, PROMPTS, prior)


def test_the_end_of_a_shard_changes_no_picture_of_a_batch(contract: Path, settings: Settings, tmp_path: Path) -> None:
    whole = draw(contract, settings, PROMPTS, tmp_path / "whole", batch_size=4)
    short = draw(contract, settings, PROMPTS[:3], tmp_path / "short", batch_size=4)
    assert short.items() <= whole.items()


def test_the_embedded_model(settings: Settings, tmp_path: Path) -> None:
    bundle, prompts = Path("emoji"), ("a red apple", "panda")
    changes = {"prior": "pahi", "prior_strength": 1.0, "encode_format": "webp"}
    folder = open_bundle(str(bundle)).path
    assert draw(folder, settings, prompts, tmp_path / "out", **changes) == expected(folder, prompts, "pahi")
