"""`bulk --candidates`: the best of each row, with scores, and the same bytes whatever interrupts it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pyarrow.parquet as parquet
import pytest

from pahi_rt import FakeRuntime, Pipeline, open_bundle
from pahi_rt.bulk.artist import Artist, Task
from pahi_rt.bulk.rows import Row
from pahi_rt.bulk.seeds import row_seed
from pahi_rt.bulk.settings import Settings, check_settings
from pahi_rt.bulk.store import open_store
from pahi_rt.drawing import read_drawing
from pahi_rt.errors import RequestError
from tests.bulk.conftest import contents

ROWS = (Row("a", "a red apple"), Row("b", " "), Row("c", "a grinning cat"))


@pytest.fixture(scope="module")
def pipeline() -> Pipeline:
    return Pipeline(open_bundle("emoji"), FakeRuntime(128, 128), scorer="emoji-b")


@pytest.fixture
def chosen(settings: Settings) -> Callable[..., Settings]:
    from dataclasses import replace

    def choose(**changes: object) -> Settings:
        usual = {"count": 2, "candidates": 5, "scorer": "emoji-b", "output_format": "files"}
        return replace(settings, **{**usual, "number_sample_per_shard": 6, **changes})  # type: ignore[arg-type]

    return choose


@pytest.mark.parametrize("batch_size", [1, 3])
def test_each_row_keeps_its_best(
    pipeline: Pipeline, chosen: Callable[..., Settings], tmp_path: Path, batch_size: int
) -> None:
    Artist(pipeline, open_store(str(tmp_path)), chosen(batch_size=batch_size), {}).draw(Task(0, ROWS))
    rows = parquet.read_table(tmp_path / "00000.parquet").to_pylist()
    assert [row["id"] for row in rows] == ["a", "a", "b", "b", "c", "c"]
    assert [row["key"] for row in rows] == [f"00000{index}" for index in range(6)]
    for index, row in ((0, ROWS[0]), (4, ROWS[2])):
        first = row_seed(0, row.id)
        best = pipeline.stream([row.prompt], seed=first, prior_strength=0.0, candidates=5, keep=2)
        assert [(one.seed, one.score) for one in best] == [(r["seed"], r["score"]) for r in rows[index : index + 2]]
    assert [row["score"] for row in rows[2:4]] == [None, None]
    choice = read_drawing(tmp_path / "00000" / "000000.png").choice
    assert choice is not None
    assert (choice.scorer, choice.candidates, choice.first_seed) == ("emoji-b", 5, row_seed(0, "a"))
    assert choice.scores == (rows[0]["score"],)


@pytest.mark.parametrize("kind", ["files", "webdataset", "parquet"])
def test_a_retry_keeps_what_was_chosen(
    pipeline: Pipeline, chosen: Callable[..., Settings], tmp_path: Path, kind: str
) -> None:
    mended = (ROWS[0], Row("b", "panda"), ROWS[2])
    one, two = (open_store(str(tmp_path / name)) for name in ("one", "two"))
    for name in ("one", "two"):
        (tmp_path / name).mkdir(exist_ok=True)
    settings = chosen(output_format=kind)
    Artist(pipeline, one, settings, {}).draw(Task(0, ROWS))
    Artist(pipeline, one, settings, {}).draw(Task(0, mended, is_retry=True))
    Artist(pipeline, two, settings, {}).draw(Task(0, mended))
    assert contents(tmp_path / "one") == contents(tmp_path / "two")


def test_a_retry_keeps_only_what_is_of_the_same_seeds(
    pipeline: Pipeline, chosen: Callable[..., Settings], tmp_path: Path
) -> None:
    """Two rows with one id and one prompt: the first was drawn, and the second is mended."""
    before = (Row("a", "panda", 1), Row("a", "panda", problem="the seed is not a whole number"))
    mended = (before[0], Row("a", "panda", 100))
    Artist(pipeline, open_store(str(tmp_path)), chosen(), {}).draw(Task(0, before))
    Artist(pipeline, open_store(str(tmp_path)), chosen(), {}).draw(Task(0, mended, is_retry=True))
    seeds = parquet.read_table(tmp_path / "00000.parquet")["seed"].to_pylist()
    assert [seed // 100 for seed in seeds] == [0, 0, 1, 1]


def test_a_column_cannot_be_called_as_the_scores(chosen: Callable[..., Settings]) -> None:
    with pytest.raises(RequestError, match="score"):
        check_settings(chosen(save_additional_columns=("score",)))
    check_settings(chosen(save_additional_columns=("score",), candidates=None, scorer=None))
