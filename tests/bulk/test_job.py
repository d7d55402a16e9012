from __future__ import annotations

import io
import json
import tarfile
from contextlib import suppress
from pathlib import Path
from typing import Any

import pyarrow.parquet as parquet
import pytest
from PIL import Image

from pahi_rt import Pipeline
from pahi_rt.bulk.place import open_place
from pahi_rt.bulk.record import read
from pahi_rt.bulk.seeds import row_seed
from pahi_rt.bulk.store import LocalStore, open_store
from pahi_rt.bulk.verify import check_complete, check_pictures, choose_pictures
from pahi_rt.errors import OutputError, PahiError, PromptError, RequestError, RunError
from tests.bulk.conftest import Bulk, contents


def facts(folder: Path) -> list[dict[str, Any]]:
    return [row for path in sorted(folder.glob("*.parquet")) for row in parquet.read_table(path).to_pylist()]


def pixels(folder: Path) -> dict[tuple[str, int], str]:
    return {(row["id"], row["seed"]): row["pixels_sha256"] for row in facts(folder)}


def test_a_shard_has_the_names_of_img2dataset(bulk: Bulk, prompts: Path, tmp_path: Path) -> None:
    outcome = bulk(prompts, tmp_path / "out")
    assert (outcome.shards, outcome.successes, outcome.failed) == (3, 10, 0)
    names = {path.name for path in (tmp_path / "out").iterdir()}
    shards = {f"0000{n}{ending}" for n in range(3) for ending in (".tar", ".parquet", "_stats.json")}
    assert names == {"README.md", "bulk.json", *shards}
    with tarfile.open(tmp_path / "out" / "00001.tar") as tar:
        assert tar.getnames()[:3] == ["000010.png", "000010.json", "000010.txt"]


def test_the_pictures_are_those_of_generate(bulk: Bulk, prompts: Path, tmp_path: Path, fake: Pipeline) -> None:
    bulk(prompts, tmp_path / "out", output_format="files", count=2)
    seed = row_seed(0, "prompts.txt:3")
    for row in facts(tmp_path / "out")[6:8]:
        assert (row["caption"], row["id"], row["seed"]) == ("a red apple 3", "prompts.txt:3", seed)
        with Image.open(tmp_path / "out" / row["key"][:5] / f"{row['key']}.png") as image:
            assert image.tobytes() == fake("a red apple 3", seed=seed).tobytes()
            assert (image.text["prompt"], image.text["seed"]) == ("a red apple 3", str(seed))  # type: ignore[attr-defined]
        seed += 1


@pytest.mark.parametrize("output_format", ["files", "webdataset", "parquet"])
def test_no_size_of_shard_and_no_order_changes_a_picture(
    bulk: Bulk, prompts: Path, tmp_path: Path, output_format: str
) -> None:
    bulk(prompts, tmp_path / "four", output_format=output_format)
    bulk(prompts, tmp_path / "seven", output_format=output_format, number_sample_per_shard=7, batch_size=3)
    turned = tmp_path / "turned" / "prompts.jsonl"
    turned.parent.mkdir()
    rows = [{"prompt": f"a red apple {n}", "uid": f"prompts.txt:{n}"} for n in reversed(range(10))]
    turned.write_text("".join(json.dumps(row) + "\n" for row in rows))
    bulk(turned, tmp_path / "other", output_format=output_format, id_col="uid")
    assert pixels(tmp_path / "four") == pixels(tmp_path / "seven") == pixels(tmp_path / "other")
    assert len(set(pixels(tmp_path / "four").values())) == 10


def test_again_draws_only_what_is_missing(bulk: Bulk, prompts: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    bulk(prompts, out)
    whole = contents(out)
    bulk(prompts, out)
    assert bulk.drawn == []  # type: ignore[attr-defined]
    (out / "00001_stats.json").unlink()  # as if killed before it was written
    (out / "00001.parquet").write_bytes(b"half")
    bulk(prompts, out)
    assert bulk.drawn == [1]  # type: ignore[attr-defined]
    assert contents(out) == whole


def test_rows_that_fail_are_in_the_stats_and_stop_nothing(bulk: Bulk, tmp_path: Path) -> None:
    lines = ["a cat", "", "a dog\0", "a fox", "\udcff", "a hen"]
    source = tmp_path / "p.txt"
    source.write_bytes("\n".join(lines).encode("utf-8", "surrogateescape"))
    outcome = bulk(source, tmp_path / "out")
    assert (outcome.successes, outcome.failed) == (3, 3)
    stats = [json.loads(path.read_text()) for path in sorted((tmp_path / "out").glob("*_stats.json"))]
    assert [one["failed"] for one in stats] == [2, 1]
    assert [failure["id"] for one in stats for failure in one["failures"]] == ["p.txt:1", "p.txt:2", "p.txt:4"]
    assert stats[0]["status_dict"] == {"success": 2, "the prompt is empty": 1, "the prompt holds a NUL byte": 1}
    assert [row["status"] for row in facts(tmp_path / "out")] == ["success", "failed", "failed", "success"] + [
        "failed",
        "success",
    ]


@pytest.mark.parametrize("output_format", ["files", "webdataset", "parquet"])
def test_mended_rows_are_drawn_and_the_others_kept(
    bulk: Bulk, tmp_path: Path, output_format: str, monkeypatch: pytest.MonkeyPatch, fake: Pipeline
) -> None:
    source, out = tmp_path / "p.txt", tmp_path / "out"
    source.write_text("a cat\n\na dog\na fox\na hen\n")
    bulk(source, out, output_format=output_format)
    source.write_text("a cat\nan owl\na dog\na fox\na hen\n")
    with pytest.raises(RunError, match="are not those"):
        bulk(source, out, output_format=output_format)
    asked: list[int] = []
    draw = fake.draw
    monkeypatch.setattr(fake, "draw", lambda ids, seeds, strengths: asked.extend(seeds) or draw(ids, seeds, strengths))
    outcome = bulk(source, out, retry_failed=True, output_format=output_format)
    assert (outcome.successes, outcome.failed, bulk.drawn) == (5, 0, [0])  # type: ignore[attr-defined]
    assert asked == [row_seed(0, "p.txt:1")]
    bulk(source, tmp_path / "anew", output_format=output_format)
    assert contents(out) == contents(tmp_path / "anew")


@pytest.mark.parametrize("lines", [["a car", "a bus", "a train"], ["a cat", "an owl"], ["a hen", "a cat", "a dog"]])
def test_a_retry_loses_no_picture(bulk: Bulk, tmp_path: Path, lines: list[str]) -> None:
    source, out = tmp_path / "p.txt", tmp_path / "out"
    source.write_text("a cat\n\na dog\n")
    bulk(source, out)
    before = contents(out)
    source.write_text("".join(f"{line}\n" for line in lines))
    with pytest.raises(RunError, match="which the input lacks now"):
        bulk(source, out, retry_failed=True)
    assert contents(out) == before


@pytest.mark.parametrize("output_format", ["files", "webdataset", "parquet"])
@pytest.mark.parametrize("published", [0, 1, 2])
def test_a_retry_that_is_cut_off_leaves_no_mixture(
    bulk: Bulk, tmp_path: Path, output_format: str, published: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, out = tmp_path / "p.txt", tmp_path / "out"
    source.write_text("a cat\n\n")
    bulk(source, out, output_format=output_format)
    source.write_text("a cat\nan owl\n")
    publish, left = LocalStore.publish, [published]

    def cut_off(store: LocalStore, made: Path) -> None:
        if made.name != "bulk.json" and not left[0]:
            raise KeyboardInterrupt
        left[0] -= made.name != "bulk.json"
        publish(store, made)

    with monkeypatch.context() as patch:
        patch.setattr(LocalStore, "publish", cut_off)
        with suppress(KeyboardInterrupt):
            bulk(source, out, retry_failed=True, output_format=output_format)
    bulk(source, out, output_format=output_format)
    bulk(source, tmp_path / "anew", output_format=output_format)
    assert contents(out) == contents(tmp_path / "anew")


def test_a_shard_that_another_run_has_made_is_left(
    bulk: Bulk, prompts: Path, tmp_path: Path, fake: Pipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    bulk(prompts, out, output_format="files")
    before = (out / "00000").stat().st_ino
    monkeypatch.setattr("pahi_rt.bulk.job.find_done", lambda store: {})
    bulk(prompts, out, output_format="files")
    assert bulk.drawn == [0, 1, 2]  # type: ignore[attr-defined]
    assert (out / "00000").stat().st_ino == before


@pytest.mark.parametrize(
    "change",
    [{"seed": 1}, {"count": 2}, {"encode_format": "webp"}, {"number_sample_per_shard": 5}, {"output_format": "files"}],
)
def test_another_run_is_not_gone_on_with(bulk: Bulk, prompts: Path, tmp_path: Path, change: dict[str, Any]) -> None:
    bulk(prompts, tmp_path / "out")
    before = contents(tmp_path / "out")
    with pytest.raises(RunError) as caught:
        bulk(prompts, tmp_path / "out", **change)
    assert "overwrite" in caught.value.fix
    assert contents(tmp_path / "out") == before
    bulk(prompts, tmp_path / "out", mode="overwrite", **change)
    assert contents(tmp_path / "out") != before


def test_another_version_of_what_draws_is_refused(bulk: Bulk, prompts: Path, tmp_path: Path) -> None:
    bulk(prompts, tmp_path / "out")
    record = tmp_path / "out" / "bulk.json"
    record.write_text(record.read_text().replace('"runtime_version": "1"', '"runtime_version": "0"'))
    (tmp_path / "out" / "00000_stats.json").unlink()
    with pytest.raises(RunError, match="runtime_version"):
        bulk(prompts, tmp_path / "out")


def test_an_input_is_added_only_when_asked_for(bulk: Bulk, prompts: Path, tmp_path: Path) -> None:
    more, out = tmp_path / "more.txt", tmp_path / "out"
    more.write_text("a cat\n")
    bulk(prompts, out)
    with pytest.raises(RunError) as caught:
        bulk(more, out)
    assert "extend" in caught.value.fix
    for _ in range(2):  # the second time adds nothing
        assert bulk(more, out, mode="extend").shards == 1
    assert [(part.first_shard, part.shards) for part in read(open_store(str(out))).parts] == [(0, 3), (3, 1)]
    assert len(facts(out)) == 11
    assert bulk(prompts, out).successes == 10


def test_another_input_of_the_same_name_is_not_taken_for_a_mended_one(bulk: Bulk, tmp_path: Path) -> None:
    for day, line in (("one", "a cat\n\n"), ("two", "a car\n")):
        (tmp_path / day).mkdir()
        (tmp_path / day / "p.txt").write_text(line)
    bulk(tmp_path / "one" / "p.txt", tmp_path / "out")
    with pytest.raises(RunError) as caught:
        bulk(tmp_path / "two" / "p.txt", tmp_path / "out", mode="extend")
    assert "another name" in caught.value.fix
    assert "--retry-failed" not in caught.value.fix


def test_an_unfinished_run_is_not_extended(bulk: Bulk, prompts: Path, tmp_path: Path) -> None:
    more, out = tmp_path / "more.txt", tmp_path / "out"
    more.write_text("a cat\n")
    bulk(prompts, out)
    record = out / "bulk.json"
    record.write_text(record.read_text().replace('"shards": 3', '"shards": null'))
    with pytest.raises(RunError, match="not finished"):
        bulk(more, out, mode="extend")


def test_a_changed_or_shorter_input_is_noticed(bulk: Bulk, prompts: Path, tmp_path: Path) -> None:
    bulk(prompts, tmp_path / "out")
    lines = prompts.read_text().splitlines(keepends=True)
    prompts.write_text("".join(["a cat\n", *lines[1:]]))
    with pytest.raises(RunError, match="are not those"):
        bulk(prompts, tmp_path / "out")
    prompts.write_text("".join(lines[:8]))
    with pytest.raises(RunError, match="has changed"):
        bulk(prompts, tmp_path / "out")


@pytest.mark.parametrize("mode", ["incremental", "extend", "overwrite"])
def test_files_of_others_are_left_alone(bulk: Bulk, prompts: Path, tmp_path: Path, mode: str) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "letter.txt").write_text("dear")
    with pytest.raises(OutputError):
        bulk(prompts, tmp_path / "out", mode=mode)
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["letter.txt"]


@pytest.mark.parametrize(
    "change",
    [
        {"count": 5},
        {"encode_quality": 50},
        {"encode_format": "webp", "encode_quality": 0},
        {"save_additional_columns": ("seed",)},
    ],
)
def test_settings_that_do_not_fit(bulk: Bulk, prompts: Path, tmp_path: Path, change: dict[str, Any]) -> None:
    with pytest.raises(RequestError):
        bulk(prompts, tmp_path / "out", **change)


def test_an_empty_input(bulk: Bulk, tmp_path: Path) -> None:
    (tmp_path / "p.txt").write_text("")
    with pytest.raises(PromptError):
        bulk(tmp_path / "p.txt", tmp_path / "out")


@pytest.mark.parametrize(("kind", "quality"), [("png", None), ("webp", None), ("webp", 50), ("jpeg", None)])
def test_verify_draws_again(
    bulk: Bulk,
    prompts: Path,
    tmp_path: Path,
    fake: Pipeline,
    monkeypatch: pytest.MonkeyPatch,
    kind: str,
    quality: int | None,
) -> None:
    out, draw = tmp_path / "out", fake.draw
    bulk(prompts, out, encode_format=kind, encode_quality=quality)
    store = open_store(str(out))
    record = read(store)
    done = check_complete(store, record)
    assert len(set(choose_pictures(done, 4, seed=1))) == 4
    chosen = choose_pictures(done, 100, seed=0)
    assert [one.verdict for one in check_pictures(store, record.settings, fake, chosen)] == ["equal"] * 10
    monkeypatch.setattr(fake, "draw", lambda ids, seeds, strengths: draw(ids, [1] * len(seeds), strengths))
    assert {one.verdict for one in check_pictures(store, record.settings, fake, chosen)} == {"different"}


def test_verify_finds_damage_and_what_is_missing(bulk: Bulk, prompts: Path, tmp_path: Path, fake: Pipeline) -> None:
    out = tmp_path / "out"
    bulk(prompts, out, output_format="files")
    store = open_store(str(out))
    record = read(store)
    image = Image.new("RGB", (32, 32))
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    picture = out / "00000" / "000000.png"
    picture.write_bytes(buffer.getvalue().ljust(picture.stat().st_size, b"\0"))
    chosen = choose_pictures(check_complete(store, record), 100, seed=0)
    verdicts = [one.verdict for one in check_pictures(store, record.settings, fake, chosen)]
    assert verdicts == ["damaged"] + ["equal"] * 9
    (out / "00001_stats.json").unlink()
    with pytest.raises(RunError, match="lacks these shards: 1"):
        check_complete(store, record)


@pytest.mark.parametrize("place", ["{tmp}/out", "memory://verified/out"])
@pytest.mark.parametrize("output_format", ["files", "webdataset", "parquet"])
def test_verify_names_every_shard_that_lacks_a_file(
    bulk: Bulk, prompts: Path, tmp_path: Path, output_format: str, place: str
) -> None:
    url = place.format(tmp=tmp_path)
    bulk(prompts, url, output_format=output_format, number_sample_per_shard=2)
    store = open_store(url)
    assert len(check_complete(store, read(store))) == 5
    folder, path = open_place(url)
    inside = {"files": "/000011.png", "webdataset": ".tar", "parquet": ".parquet"}[output_format]
    folder.rm(f"{path}/00001{inside}")
    for shard in (2, 4):
        folder.pipe_file(f"{path}/0000{shard}.parquet", b"half")
    with pytest.raises(RunError, match="damaged: 1-2, 4"):
        check_complete(store, read(store))
    folder.rm(path, recursive=True)


def test_errors_cross_processes(bulk: Bulk) -> None:
    import pickle

    error = pickle.loads(pickle.dumps(RunError("what", fix="fix")))
    assert isinstance(error, RunError) and isinstance(error, PahiError)
    assert (error.what, error.fix) == ("what", "fix")
