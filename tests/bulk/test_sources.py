from __future__ import annotations

import gzip
import itertools
import json
import threading
import zipfile
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import fsspec
import pyarrow as arrow
import pyarrow.parquet as parquet
import pytest
from fsspec.compression import compr

from pahi_rt.bulk.rows import Row
from pahi_rt.bulk.sources import Columns, additional_types, count_rows, find_files, read_rows
from pahi_rt.errors import PahiError, PromptError

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


def test_files_of_a_folder_and_of_a_pattern_are_named_from_there(tmp_path: Path) -> None:
    (tmp_path / "in" / "b").mkdir(parents=True)
    (tmp_path / "in" / "b" / "2.txt").write_text("b\n")
    (tmp_path / "in" / "1.txt.gz").write_bytes(gzip.compress(b"a\n"))
    (tmp_path / "in" / "_SUCCESS").write_text("")
    found = {"1.txt.gz:0": "a", "b/2.txt:0": "b"}
    assert {row.id: row.prompt for row in rows(tmp_path / "in")} == found
    assert {row.id: row.prompt for row in rows(tmp_path / "in" / "**" / "*.txt*")} == found


def test_hidden_files_and_the_output_are_not_in_a_folder(tmp_path: Path) -> None:
    for name in ("a.txt", ".git/b.txt", "c/_old/d.txt", "out/00000/00000.txt", "outer/e.txt"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("x\n")
    expected = {
        "c/_old": ["d.txt"],
        "": ["a.txt", "outer/e.txt"],
        "*/*.txt": ["outer/e.txt"],
        ".g*/*.txt": [".git/b.txt"],
        "c/_old/*": ["d.txt"],
        "out/00000/00000.txt": ["00000.txt"],
    }
    for prompts, names in expected.items():
        found = find_files(str(tmp_path / prompts), str(tmp_path / "out"))
        assert [file.name for file in found] == names


def test_a_name_that_looks_like_a_pattern(tmp_path: Path) -> None:
    (tmp_path / "prompts [v1]?.txt").write_text("a\n")
    assert [row.id for row in rows(tmp_path / "prompts [v1]?.txt")] == ["prompts [v1]?.txt:0"]


def test_a_file_in_an_archive(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as archive:
        archive.writestr("in/a.txt", "a\n")
    assert [row.id for row in rows(f"zip://in/a.txt::{tmp_path / 'x.zip'}")] == ["a.txt:0"]


@pytest.mark.parametrize("query", ["", "?download=true", "?path=in/b.csv#c"])
def test_a_file_of_the_web_has_the_name_that_it_has_on_a_disk(tmp_path: Path, query: str) -> None:
    pytest.importorskip("aiohttp")
    (tmp_path / "my prompts.txt").write_text("a\n")
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(tmp_path))) as server:
        threading.Thread(target=server.serve_forever).start()
        try:
            url = f"http://127.0.0.1:{server.server_port}/my%20prompts.txt{query}"
            assert [(row.id, row.prompt) for row in rows(url)] == [("my prompts.txt:0", "a")]
        finally:
            server.shutdown()


class Quiet(SimpleHTTPRequestHandler):
    """Serves files without a word."""

    def log_message(self, *words: object) -> None: ...


def test_a_compression_without_its_package_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(compr, "zstd", raising=False)
    (tmp_path / "p.txt.zst").write_bytes(b"")
    with pytest.raises(PahiError) as caught:
        find_files(str(tmp_path / "p.txt.zst"))
    assert caught.value.fix == "pip install zstandard"


def test_a_url_of_fsspec(tmp_path: Path) -> None:
    with fsspec.open("memory://in/p.txt", "w") as file:
        file.write("a\nb\n")
    assert [(row.id, row.prompt) for row in rows("memory://in/p.txt")] == [("p.txt:0", "a"), ("p.txt:1", "b")]


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


def test_a_file_whose_name_is_not_utf8(tmp_path: Path) -> None:
    (tmp_path / "caf\udce9.txt").write_text("a\n")
    assert [row.id for row in rows(tmp_path)] == ["caf\\udce9.txt:0"]


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


@pytest.mark.parametrize("name", ["missing.txt", "p.doc", "s4://bucket/p.txt"])
def test_no_prompts_there(tmp_path: Path, name: str) -> None:
    (tmp_path / "p.doc").write_text("a")
    with pytest.raises(PahiError) as caught:
        find_files(name if "://" in name else str(tmp_path / name))
    assert caught.value.fix


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
