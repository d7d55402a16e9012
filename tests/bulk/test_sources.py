from __future__ import annotations

import gzip
import itertools
import json
from pathlib import Path

import pyarrow as arrow
import pyarrow.parquet as parquet
import pytest

from pahi_rt.bulk.prompt_files import find_files
from pahi_rt.bulk.rows import Row
from pahi_rt.bulk.sources import Columns, additional_types, count_rows, read_rows
from pahi_rt.errors import PromptError

PLAIN = Columns()


def rows(path: object, columns: Columns = PLAIN) -> list[Row]:
    files = find_files(str(path))
    found = list(read_rows(files, columns))
    assert count_rows(files, columns) == len(found)
    return found


def test_a_line_of_text_is_a_row_and_a_bad_one_keeps_its_number(tmp_path: Path) -> None:
    (tmp_path / "p.txt").write_bytes(b"\xef\xbb\xbfa cat\r\n\n\xff\na\x0cdog")
    found = rows(tmp_path / "p.txt")
    assert [row.prompt for row in found] == ["a cat", "", "\udcff", "a\x0cdog"]
    assert [row.id for row in found] == [f"p.txt:{number}" for number in range(4)]


@pytest.mark.parametrize("column", ["prompt", "Caption", "TEXT"])
def test_a_table_has_a_column_of_prompts(tmp_path: Path, column: str) -> None:
    (tmp_path / "p.csv").write_text(f'n,{column}\n1,"a ""red"", big\napple"\n2,a cat\n3\n')
    found = rows(tmp_path / "p.csv")
    assert [row.prompt for row in found[:2]] == ['a "red", big\napple', "a cat"]
    assert [row.problem for row in found] == [None, None, "the row has 1 cells, not 2"]


def test_tsv_has_no_quotes(tmp_path: Path) -> None:
    (tmp_path / "p.tsv").write_text('Prompt\tn\n"a\t1\nb\t2\n')
    assert [row.prompt for row in rows(tmp_path / "p.tsv")] == ['"a', "b"]


def test_lines_of_json(tmp_path: Path) -> None:
    lines = ['{"prompt": "a", "seed": 3, "tags": [1]}', '"b"', "nonsense", "7", '{"n": 1}', '{"prompt": 1}']
    (tmp_path / "p.jsonl").write_text("\n".join(lines))
    found = rows(tmp_path / "p.jsonl")
    assert [row.prompt for row in found] == ["a", "b", "", "", "", ""]
    assert [row.problem is None for row in found] == [True, True, False, False, False, False]
    (first, *_) = read_rows(find_files(str(tmp_path / "p.jsonl")), Columns(seed="seed", additional=("tags",)))
    assert (first.seed, dict(first.more)) == (3, {"tags": "[1]"})


def test_parquet_gives_ids_and_seeds(tmp_path: Path) -> None:
    table = {"caption": ["a", None], "uid": [7, 8], "score": [0.5, None]}

    parquet.write_table(arrow.table(table), tmp_path / "p.parquet")
    found = rows(tmp_path / "p.parquet", Columns(id="uid", additional=("score",)))
    assert [row.id for row in found] == ["7", "p.parquet:1"]
    assert found[0].more == {"score": 0.5}
    assert found[1].problem == "the prompt is missing"


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("a,,1", "the id is missing"),
        ("a,x,y", "the seed is not a whole number"),
        ("a,x,-1", "-1 is not a seed"),
        ("a,x,18446744073709551616", "18446744073709551616 is not a seed"),
    ],
)
def test_a_bad_id_or_seed_fails_alone(tmp_path: Path, line: str, reason: str) -> None:
    (tmp_path / "p.csv").write_text(f"prompt,id,seed\n{line}\nb,y,18446744073709551615\n")
    bad, good = rows(tmp_path / "p.csv", Columns(id="id", seed="seed"))
    assert (bad.problem, bad.id) == (reason, "x" if ",x," in line else "p.csv:0")
    assert (good.problem, good.id, good.seed) == (None, "y", 2**64 - 1)


def test_bytes_of_parquet_that_are_not_utf8_fail_their_own_row(tmp_path: Path) -> None:
    for kind, offset in ((arrow.string(), "int32"), (arrow.large_string(), "int64")):
        offsets = arrow.array([0, 1, 2, 2], offset).buffers()[1]
        texts = arrow.Array.from_buffers(kind, 3, [None, offsets, arrow.py_buffer(b"a\xff")])
        parquet.write_table(arrow.table({"prompt": texts, "note": texts}), tmp_path / "p.parquet")
        found = rows(tmp_path / "p.parquet", Columns(additional=("note",)))
        assert [row.prompt for row in found] == ["a", "\udcff", ""]
        assert [row.more["note"] for row in found] == ["a", "\udcff", ""]


def test_an_open_quote_names_the_lines_that_it_swallows(tmp_path: Path) -> None:
    (tmp_path / "p.csv").write_text('prompt\na cat\n"a dog\n' + "a fox\n" * 20)
    found = rows(tmp_path / "p.csv")
    assert len(found) == 2
    assert (found[1].problem or "").startswith("the row in lines 3 to 23 is broken")


def test_whole_numbers_of_pandas_are_ids_and_seeds(tmp_path: Path) -> None:
    """A column of whole numbers of which one is missing."""
    table = {"prompt": ["a", "b", "c", "d"], "id": [1.0, None, 1.5, 2.0**53], "seed": [7.0, 1.0, 1.0, 1.5]}
    parquet.write_table(arrow.table(table), tmp_path / "p.parquet")
    ids = rows(tmp_path / "p.parquet", Columns(id="id"))
    assert [(row.id, row.problem is None) for row in ids][0] == ("1", True)
    assert [row.problem is None for row in ids] == [True, False, False, False]
    seeds = rows(tmp_path / "p.parquet", Columns(seed="seed"))
    assert [row.seed for row in seeds] == [7, 1, 1, None]


@pytest.mark.parametrize("other", ["parquet", "csv"])
def test_additional_columns_have_one_type(tmp_path: Path, other: str) -> None:
    parquet.write_table(arrow.table({"prompt": ["a"], "n": [1]}), tmp_path / "a.parquet")
    parquet.write_table(arrow.table({"prompt": ["b"], "n": [2]}), tmp_path / "b.parquet")
    columns = Columns(additional=("n",))
    assert additional_types(find_files(str(tmp_path)), columns) == {"n": arrow.int64()}
    if other == "csv":
        (tmp_path / "c.csv").write_text("prompt,n\nc,3\n")
    else:
        parquet.write_table(arrow.table({"prompt": ["c"], "n": [1.5]}), tmp_path / "c.parquet")
    with pytest.raises(PromptError, match=r"a\.parquet.*c\."):
        additional_types(find_files(str(tmp_path)), columns)


@pytest.mark.parametrize("columns", [PLAIN, Columns(caption="x"), Columns(caption="a", id="x")])
def test_a_missing_column_is_named(tmp_path: Path, columns: Columns) -> None:
    (tmp_path / "p.csv").write_text("a,b\n1,2\n")
    with pytest.raises(PromptError, match="no column"):
        list(read_rows(find_files(str(tmp_path / "p.csv")), columns))


def test_rows_are_streamed(tmp_path: Path) -> None:
    """The first rows come before the file's end has been read: here it has a broken one."""
    path = tmp_path / "p.jsonl.gz"
    whole = gzip.compress("".join(json.dumps({"prompt": str(n)}) + "\n" for n in range(200_000)).encode())
    path.write_bytes(whole[: len(whole) // 2])
    stream = read_rows(find_files(str(path)), PLAIN)
    assert [row.prompt for row in itertools.islice(stream, 3)] == ["0", "1", "2"]
    with pytest.raises(PromptError):
        list(stream)
