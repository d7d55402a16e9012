"""What a run writes is loaded by the programs that people load it with, without a word about how."""

from __future__ import annotations

import csv
import re
from pathlib import Path
from typing import Any

import pytest

from tests.bulk.conftest import Bulk


@pytest.fixture
def table(tmp_path: Path) -> Path:
    """Five rows, the second of which fails, with a column whose first value is missing."""
    path = tmp_path / "prompts.csv"
    rows = [["a cat", ""], ["", "x"], ["a dog", "pets"], ["a fox", "wild"], ["a hen", "farm"]]
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([["prompt", "kind"], *rows])
    return path


@pytest.mark.parametrize("encode_format", ["png", "webp", "jpeg"])
@pytest.mark.parametrize("output_format", ["files", "webdataset", "parquet"])
def test_datasets_loads_the_folder(
    bulk: Bulk, table: Path, tmp_path: Path, output_format: str, encode_format: str
) -> None:
    datasets = pytest.importorskip("datasets")
    out = tmp_path / "out"
    bulk(
        table,
        out,
        output_format=output_format,
        encode_format=encode_format,
        number_sample_per_shard=2,
        save_additional_columns=("kind",),
    )
    loaded = datasets.load_dataset(str(out), split="train", cache_dir=str(tmp_path / "cache"))
    # `datasets` reads the files of folders in the order of the file system.
    rows = sorted(map(picture_of, loaded), key=lambda row: str(row["id"]))
    captions = ["a cat", "a dog", "a fox", "a hen"]
    assert [row["caption"] for row in rows if row["image"] is not None] == captions
    assert [row["kind"] for row in rows if row["image"] is not None] == ["", "pets", "wild", "farm"]
    assert {row["image"].size for row in rows if row["image"] is not None} == {(32, 32)}
    assert len(rows) == (5 if output_format == "parquet" else 4)


NAMES = ("Unnamed: 0", "@id", "- x", "no", "on", "null", "2024", "a 'b' \"c\" #", "größe")


@pytest.mark.parametrize("output_format", ["files", "webdataset", "parquet"])
def test_datasets_finds_columns_of_any_name(bulk: Bulk, tmp_path: Path, output_format: str) -> None:
    datasets = pytest.importorskip("datasets")
    with (tmp_path / "p.csv").open("w", newline="") as file:
        csv.writer(file).writerows([["prompt", *NAMES], ["a cat", *map(str.upper, NAMES)]])
    bulk(tmp_path / "p.csv", tmp_path / "out", output_format=output_format, save_additional_columns=NAMES)
    (row,) = datasets.load_dataset(str(tmp_path / "out"), split="train", cache_dir=str(tmp_path / "cache"))
    found = picture_of(row)
    assert {name: found[name] for name in NAMES} == {name: name.upper() for name in NAMES}


@pytest.mark.parametrize("output_format", ["files", "webdataset", "parquet"])
def test_datasets_loads_every_seed_as_it_is(bulk: Bulk, tmp_path: Path, output_format: str) -> None:
    datasets = pytest.importorskip("datasets")
    seeds = [2**63 - 1, 7, 2**63, 2**64 - 1]
    (tmp_path / "p.csv").write_text("prompt,seed\n" + "".join(f"a cat,{seed}\n" for seed in seeds))
    outcome = bulk(tmp_path / "p.csv", tmp_path / "out", output_format=output_format, seed_col="seed")
    loaded = datasets.load_dataset(str(tmp_path / "out"), split="train", cache_dir=str(tmp_path / "cache"))
    fitting = seeds if output_format == "parquet" else seeds[:2]
    assert {picture_of(row)["seed"] for row in loaded} == set(fitting)
    assert outcome.failed == len(seeds) - len(fitting)


@pytest.mark.parametrize("has_been_there", [True, False])
def test_a_card_of_the_users_stays(bulk: Bulk, table: Path, tmp_path: Path, has_been_there: bool) -> None:
    card = tmp_path / "out" / "README.md"
    if has_been_there:
        card.parent.mkdir()
        card.write_text("mine")
    bulk(table, tmp_path / "out")
    if not has_been_there:
        card.write_text(card.read_text().replace("# Pictures of", "# My pictures of"))
    mine = card.read_text()
    bulk(table, tmp_path / "out", mode="overwrite", seed=1)
    bulk(table, tmp_path / "out", seed=1)
    for path in set(tmp_path.glob("out/*")) - {card}:  # as after a kill between the removal and the new record
        path.unlink()
    bulk(table, tmp_path / "out", mode="overwrite")
    assert card.read_text() == mine


def test_a_card_that_nobody_has_changed_follows_the_run(bulk: Bulk, table: Path, tmp_path: Path) -> None:
    card = tmp_path / "out" / "README.md"
    bulk(table, tmp_path / "out")
    written = card.stat().st_ino
    bulk(table, tmp_path / "out")
    assert card.stat().st_ino == written
    (tmp_path / "more.txt").write_text("a cat\n")
    bulk(tmp_path / "more.txt", tmp_path / "out", mode="extend")
    assert "# Pictures of prompts.csv, more.txt" in card.read_text()


def picture_of(row: dict[str, Any]) -> dict[str, Any]:
    """The columns of a row, wherever the format has them."""
    if "json" not in row:
        return row
    (image,) = [row[ending] for ending in ("png", "webp", "jpg") if ending in row]
    assert row["txt"] == row["json"]["caption"]
    return {**row["json"], "image": image}


@pytest.mark.filterwarnings("ignore:.*unclosed file", "ignore:Exception ignored in")  # webdataset leaves tars open
def test_webdataset_loads_the_tars(bulk: Bulk, table: Path, tmp_path: Path) -> None:
    webdataset = pytest.importorskip("webdataset")
    bulk(table, tmp_path / "out", number_sample_per_shard=2)
    tars = [str(path) for path in sorted((tmp_path / "out").glob("*.tar"))]
    loaded = webdataset.WebDataset(tars, shardshuffle=False).decode("pil")
    found = [(sample["__key__"], sample["txt"], sample["json"]["seed"], sample["png"].size) for sample in loaded]
    assert [row[:2] for row in found] == [
        ("000000", "a cat"),
        ("000010", "a dog"),
        ("000011", "a fox"),
        ("000020", "a hen"),
    ]
    assert {row[3] for row in found} == {(32, 32)}


@pytest.mark.parametrize("output_format", ["files", "webdataset", "parquet"])
@pytest.mark.filterwarnings("ignore:.*unclosed file", "ignore:Exception ignored in")  # webdataset leaves tars open
def test_the_loaders_of_the_page(
    bulk: Bulk, table: Path, here: Path, output_format: str, capsys: pytest.CaptureFixture[str]
) -> None:
    page = Path(__file__).parents[2] / "docs" / "bulk.md"
    code = re.findall(r"^```python\n(.*?)^```", page.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    by_datasets, by_webdataset, by_arrow = (compile(block, page.name, "exec") for block in code)
    bulk(table, here / "out", output_format=output_format)
    for block, package, lines in ((by_datasets, "datasets", 4), (by_webdataset, "webdataset", 4), (by_arrow, "PIL", 5)):
        if block is by_webdataset and output_format != "webdataset":
            continue
        pytest.importorskip(package)
        exec(block, {})
        found = capsys.readouterr().out.splitlines()
        extra = output_format == "parquet" and block is by_datasets  # it has the row that failed
        assert len(found) == lines + extra
        assert sum("a cat" in line or "prompts.csv:0" in line for line in found) == 1


def test_no_time_and_no_machine_is_in_the_bytes(bulk: Bulk, table: Path, tmp_path: Path) -> None:
    from tests.bulk.conftest import contents

    for output_format in ("files", "webdataset", "parquet"):
        one, two = tmp_path / f"{output_format}-1", tmp_path / f"{output_format}-2"
        bulk(table, one, output_format=output_format)
        bulk(table, two, output_format=output_format)
        assert contents(one) == contents(two)
