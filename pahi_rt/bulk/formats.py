"""How the pictures of a shard are written: a tar of WebDataset, a folder of files, or one Parquet file.

Each has a Parquet file of facts as well, one line a picture, failed ones included; in the format "parquet" it holds the
pictures too. Nothing of a time, a machine or an order gets into the bytes.
"""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Protocol

import pyarrow as arrow
import pyarrow.parquet as parquet

from pahi_rt.bulk.layout import shard_name
from pahi_rt.bulk.sample import Sample
from pahi_rt.bulk.settings import SCORE, OutputFormat
from pahi_rt.errors import NoiseError

_ROW_GROUP = 100
"""Pictures that are in memory at once, and that a Parquet reader reads at once."""


class Writer(Protocol):
    """Writes the pictures of a shard."""

    def add(self, sample: Sample) -> None:
        """Write a picture, or the facts of a failed one. Raises OSError."""
        ...


def with_score(additional: Mapping[str, Any]) -> dict[str, Any]:
    """The additional columns of a run that chooses pictures by a score."""
    return {SCORE: arrow.float64(), **additional}


def facts_schema(additional: Mapping[str, Any]) -> Any:
    """The Arrow schema of the facts; `additional` are Arrow types by name."""
    text, number = arrow.string(), arrow.int32()
    columns = {
        "key": text,
        "id": text,
        "caption": text,
        "seed": arrow.uint64(),
        "status": text,
        "error_message": text,
        "sha256": text,
        "pixels_sha256": text,
        "width": number,
        "height": number,
        "truncated": arrow.bool_(),
        **additional,
    }
    return arrow.schema(list(columns.items()))


@contextmanager
def open_writer(
    kind: OutputFormat, folder: Path, shard: int, ending: str, additional: Mapping[str, Any]
) -> Iterator[Writer]:
    """A writer of one shard into `folder`. At the end all files are complete. Raises OSError."""
    name = shard_name(shard)
    schema = facts_schema(additional)
    if kind == "parquet":
        schema = _with_image(schema)
    with ExitStack() as stack:
        table = stack.enter_context(_Table(folder / f"{name}.parquet", schema, kind == "parquet"))
        if kind == "webdataset":
            yield stack.enter_context(_Tar(folder / f"{name}.tar", ending, table))
        elif kind == "files":
            yield stack.enter_context(_Folder(folder / name, ending, table))
        else:
            yield table


def check_loadable(seed: int, kind: OutputFormat) -> None:
    """Raises NoiseError for a seed that `datasets` would change when it loads it from JSON, or could not load."""
    if kind != "parquet" and seed >= 2**63:
        what = f"the seed {seed} is 2**63 or more, which JSON cannot hold for all readers"
        raise NoiseError(what, fix="use --output-format parquet")


def entries(kind: OutputFormat, shard: int) -> list[str]:
    """The names of what a writer makes, in the order in which they are put into place."""
    name = shard_name(shard)
    pictures = {"webdataset": [f"{name}.tar"], "files": [name], "parquet": []}[kind]
    return [*pictures, f"{name}.parquet"]


def _with_image(schema: Any) -> Any:
    """The schema with a picture, as Hugging Face `datasets` keeps it."""
    picture = arrow.struct([("bytes", arrow.binary()), ("path", arrow.string())])
    features = {"image": {"_type": "Image"}}
    fields = [arrow.field("image", picture), *schema]
    return arrow.schema(fields, metadata={"image": json.dumps(features)})


class _Table:
    """The facts, and with `has_images` the pictures, as Parquet."""

    def __init__(self, path: Path, schema: Any, has_images: bool) -> None:
        self._writer = parquet.ParquetWriter(path, schema, compression="zstd")
        self._schema = schema
        self._has_images = has_images
        self._rows: list[dict[str, Any]] = []

    def __enter__(self) -> _Table:
        return self

    def __exit__(self, *error: object) -> None:
        try:
            if error[0] is None:
                self._flush()
        finally:
            self._writer.close()

    def add(self, sample: Sample) -> None:
        row = sample.facts()
        if self._has_images:
            row["image"] = None if sample.image is None else {"bytes": sample.image, "path": None}
        self._rows.append(row)
        if len(self._rows) == _ROW_GROUP:
            self._flush()

    def _flush(self) -> None:
        if self._rows:
            self._writer.write_table(arrow.Table.from_pylist(self._rows, self._schema))
            self._rows.clear()


class _Tar:
    """A tar of WebDataset: key.png, key.txt and key.json of each picture. Failed ones are only in the facts."""

    def __init__(self, path: Path, ending: str, table: _Table) -> None:
        self._tar = tarfile.open(path, "w", format=tarfile.USTAR_FORMAT)  # noqa: SIM115  # closed in __exit__
        self._ending = ending
        self._table = table

    def __enter__(self) -> _Tar:
        return self

    def __exit__(self, *error: object) -> None:
        self._tar.close()

    def add(self, sample: Sample) -> None:
        self._table.add(sample)
        for name, content in _members(sample, self._ending):
            member = tarfile.TarInfo(name)  # its time, owner and group stay 0
            member.size = len(content)
            self._tar.addfile(member, io.BytesIO(content))


class _Folder:
    """The same as files, with the facts again in metadata.jsonl, where `datasets` looks for them."""

    def __init__(self, path: Path, ending: str, table: _Table) -> None:
        path.mkdir()
        self._path = path
        self._facts = (path / "metadata.jsonl").open("w", encoding="utf-8")
        self._ending = ending
        self._table = table

    def __enter__(self) -> _Folder:
        return self

    def __exit__(self, *error: object) -> None:
        self._facts.close()

    def add(self, sample: Sample) -> None:
        self._table.add(sample)
        for name, content in _members(sample, self._ending):
            (self._path / name).write_bytes(content)
        if sample.image is not None:
            line = {"file_name": f"{sample.key}.{self._ending}", **_described(sample)}
            self._facts.write(_json(line) + "\n")


def _members(sample: Sample, ending: str) -> list[tuple[str, bytes]]:
    if sample.image is None:
        return []
    facts = _described(sample)
    return [
        (f"{sample.key}.{ending}", sample.image),
        (f"{sample.key}.json", _json(facts).encode()),
        (f"{sample.key}.txt", facts["caption"].encode()),
    ]


def _described(sample: Sample) -> dict[str, Any]:
    """The facts of a picture that was drawn."""
    return {name: value for name, value in sample.facts().items() if name not in ("status", "error_message")}


def _json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, default=str)
