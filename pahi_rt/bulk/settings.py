"""What decides the bytes of a run. It is recorded, and cannot change while the run goes on."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field, fields
from typing import Annotated, ClassVar, Literal

from pahi_rt.errors import PahiError, RequestError, RunError
from pahi_rt.record import Record
from pahi_rt.schema import IF_ANY, Range

OutputFormat = Literal["files", "webdataset", "parquet"]
EncodeFormat = Literal["png", "webp", "jpeg"]

SCORE = "score"
"""Column of what the scorer gave a picture, where pictures are chosen."""
RESERVED = (
    "key",
    "id",
    "caption",
    "prompt",
    "seed",
    "status",
    "error_message",
    "sha256",
    "pixels_sha256",
    "width",
    "height",
    "truncated",
    "image",
    "file_name",  # of metadata.jsonl
)
"""Columns of the output, which additional columns cannot be called."""


@dataclass(frozen=True)
class Settings(Record):
    """What is drawn, and how it is written. The names are those of the options, with underscores."""

    read_error: ClassVar[type[PahiError]] = RunError
    read_fix: ClassVar[str] = "name another folder, or begin again with --incremental-mode overwrite"

    bundle_sha256: str
    """Hash of pahi.json, which holds the sha256 of every other file."""
    steps: int
    prior: str
    prior_strength: float
    precision: str
    seed: int
    seed_rule: str
    count: Annotated[int, Range(1)]
    """Pictures of each row, from the seeds s, s + 1, ...; of candidates, those that are kept."""
    batch_size: Annotated[int, Range(1)]
    output_format: OutputFormat
    encode_format: EncodeFormat
    encode_quality: int | None
    number_sample_per_shard: Annotated[int, Range(1)]
    caption_col: str | None
    id_col: str | None
    seed_col: str | None
    save_additional_columns: tuple[str, ...]
    candidates: Annotated[int, Range(1)] | None = field(default=None, metadata=IF_ANY)
    """Pictures that are drawn of each row, from the seeds s, s + 1, ..., to keep the best `count` of them."""
    scorer: str | None = field(default=None, metadata=IF_ANY)
    """The bundle's scorer that chooses."""

    @property
    def rows_per_shard(self) -> int:
        """A shard holds whole rows, with all pictures of each."""
        return self.number_sample_per_shard // self.count

    @property
    def digest(self) -> str:
        """sha256 of all of them."""
        return hashlib.sha256(json.dumps(self.to_dict()).encode()).hexdigest()


def check_settings(settings: Settings) -> None:
    """Raises RequestError for settings that do not fit together."""
    if settings.count > settings.number_sample_per_shard:
        what = f"a shard of {settings.number_sample_per_shard} has no place for {settings.count} pictures of one row"
        raise RequestError(what, fix=f"use --number-sample-per-shard {settings.count} or more")
    if settings.encode_quality is not None and settings.encode_format == "png":
        raise RequestError("a PNG has no quality", fix="leave --encode-quality out, or use --encode-format webp")
    if settings.encode_quality is not None and not 1 <= settings.encode_quality <= 100:
        raise RequestError(f"no quality: {settings.encode_quality}", fix="use --encode-quality 1 to 100")
    for name in settings.save_additional_columns:
        if name in RESERVED or (name == SCORE and settings.candidates) or not name.isprintable():
            fix = f"rename it in the input to printable text; these are taken: {', '.join(RESERVED)}"
            raise RequestError(f"an additional column cannot be called {name!r}", fix=fix)


def option_of(name: str, settings: Settings) -> str:
    """The option that gives a setting."""
    if name == "count" and settings.candidates:
        return "--keep"
    return "--bundle" if name == "bundle_sha256" else "--" + name.replace("_", "-")


def differences(begun: Record, asked: Record) -> list[tuple[str, object, object]]:
    """The fields that differ: name, then both values."""
    names = [field.name for field in fields(begun)]  # type: ignore[arg-type]  # every record is a dataclass
    return [
        (name, getattr(begun, name), getattr(asked, name))
        for name in names
        if getattr(begun, name) != getattr(asked, name)
    ]
