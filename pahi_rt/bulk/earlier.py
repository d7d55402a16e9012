"""Reads pictures back from a shard that is whole: to verify them, and to keep those that need not be drawn again."""

from __future__ import annotations

import tarfile
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from types import TracebackType
from typing import Any, Protocol

import pyarrow.parquet as parquet

from pahi_rt.bulk.encode import ENDINGS
from pahi_rt.bulk.layout import shard_name
from pahi_rt.bulk.place import described
from pahi_rt.bulk.sample import FAILED, Sample
from pahi_rt.bulk.settings import SCORE, Settings
from pahi_rt.bulk.store import ANEW, Store
from pahi_rt.errors import OutputError

_FACTS = ["key", "id", "caption", "seed", "status", "sha256", "pixels_sha256", "width", "height"]

Picture = tuple[str, str, int | None]
"""What a picture is of: the row's id, its prompt, and the seed."""


def picture_of(sample: Sample) -> Picture:
    """What a sample's picture is of."""
    return sample.id, sample.caption, sample.seed


class Earlier:
    """A shard that was drawn before, open to read while it is entered."""

    def __init__(self, store: Store, shard: int, settings: Settings) -> None:
        self._store = store
        self._name = shard_name(shard)
        self._settings = settings
        self._stack = ExitStack()

    def __enter__(self) -> Earlier:
        with self._described():
            table = parquet.ParquetFile(self._stack.enter_context(self._store.open(f"{self._name}.parquet")))
            scores = [SCORE] if self._settings.candidates else []
            facts = table.read(columns=[*_FACTS, *scores]).to_pylist()
            self._pictures = self._open(table)
        self.rows: list[dict[str, Any]] = [row for row in facts if row["status"] != FAILED]
        self.by_picture: dict[Picture, dict[str, Any]] = {
            (row["id"], row["caption"], row["seed"]): row for row in self.rows
        }
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    def find(self, sample: Sample) -> Sample | None:
        """The sample with its picture, if the same one was drawn before. Raises OutputError."""
        row = self.by_picture.get(picture_of(sample))
        if sample.error_message is not None or row is None:
            return None
        facts = {name: row[name] for name in ("sha256", "pixels_sha256", "width", "height")}
        return replace(sample, image=self.image(row["key"]), **facts)

    def find_chosen(self, candidates: Sequence[Sample]) -> list[Sample]:
        """The pictures that were chosen before of a row's candidates, the best first. Raises OutputError."""
        wanted, sample = {picture_of(one) for one in candidates}, candidates[0]
        rows = [row for picture, row in self.by_picture.items() if picture in wanted]
        names = ("seed", "sha256", "pixels_sha256", "width", "height", SCORE)
        return [replace(sample, image=self.image(row["key"]), **{name: row[name] for name in names}) for row in rows]

    def image(self, key: str) -> bytes:
        """The encoded picture, as it is in the store. Raises OutputError if it is missing."""
        with self._described():
            return self._pictures.read(key)

    def _open(self, table: Any) -> _Pictures:
        ending = ENDINGS[self._settings.encode_format]
        if self._settings.output_format == "parquet":
            return _InTable(table)
        if self._settings.output_format == "files":
            return _InFolder(self._store, self._name, ending)
        content = self._stack.enter_context(self._store.open(f"{self._name}.tar"))
        return _InTar(self._stack.enter_context(tarfile.open(fileobj=content)), ending)

    def _described(self) -> Any:
        return described(f"shard {self._name} of {self._store.url}", ANEW, OutputError)


class _Pictures(Protocol):
    def read(self, key: str) -> bytes: ...


class _InFolder:
    def __init__(self, store: Store, name: str, ending: str) -> None:
        self._store, self._name, self._ending = store, name, ending

    def read(self, key: str) -> bytes:
        return self._store.read(f"{self._name}/{key}.{self._ending}")


class _InTar:
    def __init__(self, tar: tarfile.TarFile, ending: str) -> None:
        self._tar, self._ending = tar, ending

    def read(self, key: str) -> bytes:
        content = self._tar.extractfile(f"{key}.{self._ending}")
        return b"" if content is None else content.read()


class _InTable:
    """Reads a group of rows at once, and keeps the latest: pictures are asked for in their order."""

    def __init__(self, table: Any) -> None:
        self._table = table
        groups = range(table.num_row_groups)
        self._groups = {
            key: group for group in groups for key in table.read_row_group(group, ["key"])["key"].to_pylist()
        }
        self._latest = -1
        self._images: dict[str, bytes] = {}

    def read(self, key: str) -> bytes:
        group = self._groups[key]
        if group != self._latest:
            rows = self._table.read_row_group(group, ["key", "image"]).to_pylist()
            self._latest, self._images = group, {row["key"]: row["image"]["bytes"] for row in rows if row["image"]}
        return self._images[key]
