from __future__ import annotations

import io
import json
import shutil
import tarfile
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow.parquet as parquet
import pytest
from PIL import Image

from pahi_rt import Pipeline
from pahi_rt.bulk.artist import Artist, Task
from pahi_rt.bulk.place import open_place
from pahi_rt.bulk.record import read
from pahi_rt.bulk.seeds import row_seed
from pahi_rt.bulk.settings import Settings, option_of
from pahi_rt.bulk.shards import find_done
from pahi_rt.bulk.store import LocalStore, open_store
from pahi_rt.bulk.verify import check_complete, check_pictures, choose_pictures
from pahi_rt.errors import OutputError, PahiError, PromptError, RequestError, RunError
from tests.bulk.conftest import Bulk, InlineCrew, contents


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
    monkeypatch.setattr("pahi_rt.bulk.job.find_done", lambda *run: {})
    bulk(prompts, out, output_format="files")
    assert bulk.drawn == [0, 1, 2]  # type: ignore[attr-defined]
    assert (out / "00000").stat().st_ino == before


def test_a_shard_that_a_run_of_other_settings_has_made_is_refused(
    bulk: Bulk, prompts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Such as a run that was at work when this one began the folder again."""
    out, other = tmp_path / "out", tmp_path / "other"
    bulk(prompts, out)
    bulk(prompts, other, seed=1)
    shutil.copy(other / "00001_stats.json", out)
    with pytest.raises(RunError, match="00001_stats.json is of a run with other settings"):
        bulk(prompts, out)
    monkeypatch.setattr("pahi_rt.bulk.job.find_done", lambda *run: {})
    with pytest.raises(RunError, match="00001_stats.json is of a run with other settings"):
        bulk(prompts, out)


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


@pytest.mark.parametrize(
    ("change", "option"),
    [({"count": 2}, "--count"), ({"count": 2, "candidates": 4}, "--candidates"), ({"bundle_sha256": "0"}, "--bundle")],
)
def test_the_option_that_differs_is_named(
    bulk: Bulk, prompts: Path, tmp_path: Path, change: dict[str, Any], option: str
) -> None:
    bulk(prompts, tmp_path / "out")
    with pytest.raises(RunError, match=f"was begun with {option} "):
        bulk(prompts, tmp_path / "out", **change)


def test_of_candidates_the_count_is_what_is_kept(settings: Settings) -> None:
    assert option_of("count", replace(settings, candidates=4)) == "--keep"


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


def stop_at(monkeypatch: pytest.MonkeyPatch, shard: int) -> None:
    """Interrupts every run before it has drawn this shard."""
    draw = Artist.draw

    def stop(artist: Artist, task: Task, *rest: Any) -> Any:
        if task.shard == shard:
            raise KeyboardInterrupt
        return draw(artist, task, *rest)

    monkeypatch.setattr(Artist, "draw", stop)


def test_what_was_begun_without_a_whole_shard_binds_nobody(
    bulk: Bulk, prompts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, table = tmp_path / "out", tmp_path / "t.csv"
    table.write_text("words\na cat\n")
    with monkeypatch.context() as patch:
        stop_at(patch, 0)
        with pytest.raises(KeyboardInterrupt):
            bulk(prompts, out)
    (out / "00000.tar").write_bytes(b"half")
    (out / "20261130").mkdir()  # the user's
    with pytest.raises(PromptError, match="no column"):
        bulk(table, out, output_format="parquet")
    assert not (out / "00000.tar").exists()
    (out / "20261130").rmdir()
    bulk(table, out, output_format="parquet", caption_col="words")
    bulk(table, tmp_path / "anew", output_format="parquet", caption_col="words")
    assert contents(out) == contents(tmp_path / "anew")


def test_an_added_input_without_a_whole_shard_gives_way(bulk: Bulk, prompts: Path, tmp_path: Path) -> None:
    bad, good, out = tmp_path / "bad.csv", tmp_path / "good.txt", tmp_path / "out"
    bad.write_text("words\na cat\n")
    good.write_text("a cat\n")
    bulk(prompts, out)
    before = contents(out)
    with pytest.raises(PromptError, match="no column"):
        bulk(bad, out, mode="extend")
    assert bulk(good, out, mode="extend").successes == 1
    assert [(part.inputs, part.shards) for part in read(open_store(str(out))).parts] == [
        (("prompts.txt",), 3),
        (("good.txt",), 1),
    ]
    assert before.items() - contents(out).items() == {
        ("bulk.json", before["bulk.json"]),
        ("README.md", before["README.md"]),
    }


def test_a_run_at_work_is_not_begun_again(bulk: Bulk, prompts: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    bulk(prompts, out)
    before = contents(out)
    with open_store(str(out)).workshop("00003_stats.json"), pytest.raises(OutputError, match="at work"):
        bulk(prompts, out, mode="overwrite", seed=1)
    assert contents(out) == before


MAKER = {"pahi_rt": "1", "pillow": "1", "runtime": "fake", "runtime_version": "0", "device": "cpu"}


@pytest.mark.parametrize("change", [{"settings": {"seed": 1}}, {"maker": MAKER}])
def test_a_run_that_another_has_begun_anew_does_not_go_on(
    bulk: Bulk, prompts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: dict[str, dict[str, Any]]
) -> None:
    """Another run writes the record while this one loads its runtime."""
    record, wait = tmp_path / "out" / "bulk.json", InlineCrew.wait

    def begin_anew(crew: InlineCrew, seconds: float) -> Any:
        data = json.loads(record.read_text())
        anew = {name: {**(data[name] or {}), **changed} for name, changed in change.items()}
        record.write_text(json.dumps({**data, **anew}))
        return wait(crew, seconds)

    monkeypatch.setattr(InlineCrew, "wait", begin_anew)
    with pytest.raises(RunError, match="was begun with"):
        bulk(prompts, tmp_path / "out")
    assert not list((tmp_path / "out").glob("*_stats.json"))


def test_an_input_that_became_shorter_before_its_end_is_noticed(
    bulk: Bulk, prompts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        stop_at(patch, 2)
        with pytest.raises(KeyboardInterrupt):
            bulk(prompts, tmp_path / "out")
    prompts.write_text("".join(prompts.read_text().splitlines(keepends=True)[:4]))
    with pytest.raises(RunError, match="2 shards were made of it, and now it has rows for 1"):
        bulk(prompts, tmp_path / "out")


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
        {"save_additional_columns": ("file_name",)},
        {"save_additional_columns": ("a\udcffb",)},
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


def test_verify_knows_the_seeds_of_ids(bulk: Bulk, prompts: Path, tmp_path: Path, fake: Pipeline) -> None:
    bulk(prompts, tmp_path / "out", count=2)
    store = open_store(str(tmp_path / "out"))
    settings = read(store).settings
    chosen = choose_pictures(find_done(store, settings), 4, seed=0)
    for seed, verdict in ((0, "equal"), (1, "different")):
        checked = check_pictures(store, replace(settings, seed=seed), fake, chosen)
        assert [one.verdict for one in checked] == [verdict] * 4


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
