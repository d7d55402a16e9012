"""Sources: files of prompts, read as a stream of rows.

A row's id is its file's name and its number there, from 0, or a column. A row that cannot be read stays a row, with the
reason, so that the numbers of the others do not move.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as arrow
import pyarrow.parquet as parquet

from pahi_rt.bulk.prompt_files import File, opened
from pahi_rt.bulk.rows import Row
from pahi_rt.columns import find_column
from pahi_rt.errors import PahiError, PromptError
from pahi_rt.noise import check_seed

_BATCH = 1024
"""Rows of a Parquet file that are decoded at once."""

Record = Mapping[str, Any]


@dataclass(frozen=True)
class Columns:
    """The columns that are read. None: the usual names of prompts, numbered ids, seeds from the ids."""

    caption: str | None = None
    id: str | None = None
    seed: str | None = None
    additional: tuple[str, ...] = ()


def read_rows(files: Sequence[File], columns: Columns) -> Iterator[Row]:
    """The rows of the files, one after the other. Raises PromptError for a file that cannot be read."""
    for file in files:
        for number, (record, problem) in enumerate(_read(file, columns)):
            yield _as_row(record, problem, f"{file.name}:{number}", columns)


def count_rows(files: Sequence[File], columns: Columns) -> int:
    """The number of rows, for which all but Parquet files are read through. Raises PromptError."""
    total = 0
    for file in files:
        if file.format == ".parquet":
            with opened(file) as content:
                total += parquet.ParquetFile(content).metadata.num_rows
        else:
            total += sum(1 for _ in _read(file, columns))
    return total


def additional_types(files: Sequence[File], columns: Columns) -> dict[str, Any]:
    """Additional column -> its Arrow type: that of the Parquet files, and text for what comes from other formats.

    Raises PromptError if the files do not agree.
    """
    if not columns.additional:
        return {}
    first, *others = files
    types = _types_in(first, columns)
    for file in others:
        for name, kind in _types_in(file, columns).items():
            if kind != types[name]:
                what = f"the column {name!r} is of type {types[name]} in {first.url}, and {kind} in {file.url}"
                raise PromptError(what, fix="write it with one type, or draw these files into two folders")
    return types


def _types_in(file: File, columns: Columns) -> dict[str, Any]:
    if file.format != ".parquet":
        return {name: arrow.string() for name in columns.additional}
    with opened(file) as content:
        schema = parquet.read_schema(content)
    _check_columns(schema.names, columns, file.url)
    return {name: schema.field(name).type for name in columns.additional}


Read = Iterator[tuple[Record, str | None]]
"""The records of a file by the names "prompt", "id", "seed" and those of additional columns, or why there is none."""


def _read(file: File, columns: Columns) -> Read:
    with opened(file) as content:
        yield from READERS[file.format](content, file.url, columns)


def _text(content: Any, newline: str | None = "") -> io.TextIOWrapper:
    """Text whose bytes that are not UTF-8 become surrogates, so that only their own row fails."""
    return io.TextIOWrapper(content, "utf-8-sig", errors="surrogateescape", newline=newline)


def _read_text(content: Any, url: str, columns: Columns) -> Read:
    with _text(content, newline=None) as lines:
        for line in lines:
            yield {"prompt": line.removesuffix("\n")}, None


def _read_csv(content: Any, url: str, columns: Columns) -> Read:
    with _text(content) as lines:
        yield from _read_table(csv.reader(lines, strict=True), url, columns)


def _read_tsv(content: Any, url: str, columns: Columns) -> Read:
    # PartiPrompts.tsv has no quoting: one of its prompts begins with a quotation mark.
    with _text(content) as lines:
        yield from _read_table(csv.reader(lines, delimiter="\t", quoting=csv.QUOTE_NONE), url, columns)


def _read_table(rows: Any, url: str, columns: Columns) -> Read:
    header: list[str] = next(rows, [])
    used = _check_columns(header, columns, url)
    places = {name: header.index(column) for name, column in used.items()}
    while True:
        before = rows.line_num
        try:
            cells = next(rows)
        except StopIteration:
            return
        except csv.Error as error:  # an open quote swallows all that follows
            yield {}, f"the row in lines {before + 1} to {rows.line_num} is broken: {error}"
            continue
        if len(cells) != len(header):
            yield {}, f"the row has {len(cells)} cells, not {len(header)}"
        else:
            yield {name: cells[place] for name, place in places.items()}, None


def _read_jsonl(content: Any, url: str, columns: Columns) -> Read:
    with _text(content) as lines:
        for line in lines:
            yield _read_object(line, columns)


def _read_object(line: str, columns: Columns) -> tuple[Record, str | None]:
    try:
        record = json.loads(line)
    except (ValueError, RecursionError):
        return {}, "the line is not JSON"
    if isinstance(record, str):
        return {"prompt": record}, None
    return _pick(record, columns) if isinstance(record, dict) else ({}, "the line is neither an object nor a text")


def _pick(record: dict[str, Any], columns: Columns) -> tuple[Record, str | None]:
    try:
        used = _check_columns(list(record), columns, "the line")
    except PromptError as error:
        return {}, error.what
    return {name: _as_text(record[column], name, columns) for name, column in used.items()}, None


def _as_text(value: Any, name: str, columns: Columns) -> Any:
    """Additional values of JSON as text, since the lines need not agree about their types."""
    if name not in columns.additional or isinstance(value, str | None):
        return value
    return json.dumps(value, ensure_ascii=False)


def _read_parquet(content: Any, url: str, columns: Columns) -> Read:
    file = parquet.ParquetFile(content)
    used = _check_columns(file.schema_arrow.names, columns, url)
    for batch in file.iter_batches(_BATCH, columns=list(dict.fromkeys(used.values()))):
        values = [_values(batch.column(column)) for column in used.values()]
        for row in zip(*values, strict=True):
            yield dict(zip(used, row, strict=True)), None


def _values(column: Any) -> list[Any]:
    """The values of a column. Bytes of text that are not UTF-8 become surrogates, so that only their own row fails."""
    if not (arrow.types.is_string(column.type) or arrow.types.is_large_string(column.type)):
        return list(column.to_pylist())
    raw = column.cast(arrow.large_binary()).to_pylist()
    return [None if text is None else text.decode("utf-8", "surrogateescape") for text in raw]


def _check_columns(names: Sequence[str], columns: Columns, source: str) -> dict[str, str]:
    """Name in a record -> the column that it comes from. Raises PromptError for a column that is missing."""
    used = {"prompt": columns.caption or find_column(names, source)}
    used |= {name: column for name, column in (("id", columns.id), ("seed", columns.seed)) if column}
    used |= {column: column for column in columns.additional}
    for column in used.values():
        if column not in names:
            listed = ", ".join(map(repr, names)) or "none"
            raise PromptError(f"{source} has no column {column!r}", fix=f"name one of its columns: {listed}")
    return used


def _as_row(record: Record, problem: str | None, number: str, columns: Columns) -> Row:
    prompt, row_id, seed = record.get("prompt"), number, None
    more = {name: record.get(name) for name in columns.additional}
    try:
        if problem is None and not isinstance(prompt, str):
            raise ValueError("the prompt is missing" if prompt is None else "the prompt is not text")
        if problem is None and columns.id:
            row_id = _as_id(record.get("id"))
        if problem is None and columns.seed:
            seed = _as_seed(record.get("seed"))
    except ValueError as error:
        problem = str(error)
    return Row(row_id, prompt if isinstance(prompt, str) else "", seed, problem, more)


def _as_id(value: object) -> str:
    value = _as_whole(value)
    text = str(value) if isinstance(value, int) and not isinstance(value, bool) else value
    if not isinstance(text, str) or not text.strip():
        raise ValueError("the id is missing" if text in (None, "") else "the id is neither text nor a whole number")
    if not text.isprintable():
        raise ValueError("the id holds characters that cannot be printed")
    return text


def _as_whole(value: object) -> object:
    """The value, as an int if it is a float of the same size: pandas has no ints in a column that lacks a value."""
    is_whole = isinstance(value, float) and value.is_integer() and abs(value) < 2**53
    return int(value) if is_whole else value  # type: ignore[call-overload]


def _as_seed(value: object) -> int:
    try:
        return check_seed(int(value) if isinstance(value, str) else _as_whole(value))
    except ValueError:
        raise ValueError("the seed is not a whole number") from None
    except PahiError as error:
        raise ValueError(error.what) from error


READERS: dict[str, Callable[[Any, str, Columns], Read]] = {
    ".txt": _read_text,
    ".csv": _read_csv,
    ".tsv": _read_tsv,
    ".jsonl": _read_jsonl,
    ".parquet": _read_parquet,
}
"""Ending of a file -> its reader."""
