"""The record of a run, bulk.json: what decides its bytes, what made them, and the inputs that it was given.

A run goes on only under the same record. Its inputs are parts: each has its own shards, and `extend` adds one. A part
of which no shard is whole binds nobody: it gives way to what the next command asks for.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, Literal

from pahi_rt.bulk.layout import CARD, RECORD, is_ours, shard_of, shard_of_stats, whole_shards
from pahi_rt.bulk.settings import Settings, differences, option_of
from pahi_rt.bulk.store import Store
from pahi_rt.errors import OutputError, PahiError, RunError
from pahi_rt.record import Record
from pahi_rt.runtimes.base import Description

IncrementalMode = Literal["incremental", "overwrite", "extend"]
_FORMAT = 1
_MOST_BEGUN = 10_000
"""Shards that workers may have begun before any is whole. A larger number, such as a date, is a name of the user's."""
_BEGIN_AGAIN = "name another folder, or begin again with --incremental-mode overwrite"


@dataclass(frozen=True)
class Maker(Record):
    """What made the bytes. The same settings may give others under another one."""

    pahi_rt: str
    """Its version."""
    pillow: str
    runtime: str
    runtime_version: str
    device: str


@dataclass(frozen=True)
class Part(Record):
    """The shards of one input."""

    inputs: tuple[str, ...]
    """The names of its files, as in the ids of their rows."""
    first_shard: int
    shards: int | None = None
    """Their number; None until all of the input was read."""


@dataclass(frozen=True)
class RunRecord(Record):
    """The content of bulk.json."""

    read_error: ClassVar[type[PahiError]] = RunError
    read_fix: ClassVar[str] = _BEGIN_AGAIN

    format_version: int
    bundle: str
    """The bundle's name, folder or id, as it was given."""
    settings: Settings
    additional_types: dict[str, str]
    """Additional column -> its Arrow type."""
    maker: Maker | None
    """None until the first runtime has been loaded."""
    parts: tuple[Part, ...]


def make_maker(description: Description) -> Maker:
    """What makes the bytes, from the description of a loaded runtime."""
    import PIL

    from pahi_rt import __version__

    named = [str(description[name]) for name in ("runtime", "version", "device")]
    return Maker(__version__, PIL.__version__, *named)


def begin(store: Store, asked: RunRecord, mode: IncrementalMode) -> tuple[RunRecord, Part]:
    """Begin a run, or go on with the one in the store; `asked` has one part, whose inputs are to be drawn.

    Raises RunError if another run is there, and OutputError if the folder holds anything else, or another run is at
    work there that `overwrite` would harm.
    """
    if mode == "overwrite":
        _clear(store)
    names = store.names()
    if RECORD not in names:
        if any(not name.startswith(".") and name != CARD for name in names):
            raise OutputError(f"{store.url} holds other files", fix="name another folder, or a new one in it")
        write(store, asked)
        return asked, asked.parts[0]
    found = read(store)
    record, part = _go_on(store, _without_unbound(store, found, asked, names), asked, mode)
    if record != found:
        write(store, record)
    return record, part


def _clear(store: Store) -> None:
    names = [name for name in store.names() if name != CARD]  # the user may have written it
    _check_ours(store, names)
    if not store.is_idle():
        raise OutputError(f"another run is at work in {store.url}", fix="wait for its end, or stop it first")
    # A shard first stops being whole, and the folder stops being a run's at the very end.
    store.remove(sorted(names, key=lambda name: (name == RECORD, shard_of_stats(name) is None)))


def _without_unbound(store: Store, found: RunRecord, asked: RunRecord, names: Sequence[str]) -> RunRecord:
    """The record without a last part of which no shard is whole, if another is asked for. Nothing is lost with it."""
    *others, last = found.parts
    is_begun = last.shards is not None or any(shard >= last.first_shard for shard in whole_shards(names))
    if is_begun or not store.is_idle():
        return found
    if not others:
        found = replace(found, maker=None)
    if asked.parts[0].inputs == last.inputs and (others or found == asked):
        return found
    begun = range(last.first_shard, last.first_shard + _MOST_BEGUN)
    store.remove([name for name in names if shard_of(name) in begun])
    return replace(found, parts=tuple(others))


def _go_on(store: Store, found: RunRecord, asked: RunRecord, mode: IncrementalMode) -> tuple[RunRecord, Part]:
    if not found.parts:
        return asked, asked.parts[0]
    _check_same(store, found, asked)
    return _choose_part(store, found, asked.parts[0].inputs, mode)


def read(store: Store) -> RunRecord:
    """The record in the store. Raises RunError if there is none, or it cannot be read."""
    if RECORD not in store.names():
        raise RunError(f"{store.url} is not the output of `pahi-rt bulk`", fix="check the path or the URL")
    try:
        data = json.loads(store.read(RECORD))
    except ValueError as error:
        raise RunError(f"{store.url}/{RECORD} is not JSON", fix=_BEGIN_AGAIN) from error
    record = RunRecord.from_dict(data, RECORD)
    if record.format_version != _FORMAT:
        raise RunError(f"{store.url} was made by another version of pahi-rt", fix=_BEGIN_AGAIN)
    return record


def write(store: Store, record: RunRecord) -> None:
    """Put the record into the store, whole or not at all. Raises OutputError."""
    with store.workshop(RECORD) as folder:
        (folder / RECORD).write_text(json.dumps(record.to_dict(), indent=1), encoding="utf-8")
        store.publish(folder / RECORD)


def new_record(bundle: str, settings: Settings, types: dict[str, str], inputs: Sequence[str]) -> RunRecord:
    """The record of a run that begins."""
    return RunRecord(_FORMAT, bundle, settings, types, None, (Part(tuple(inputs), 0),))


def settle_maker(store: Store, record: RunRecord, maker: Maker) -> RunRecord:
    """The record with what makes the bytes. Raises RunError if the run was begun with anything else."""
    if record.maker is not None:
        _check_maker(store, record.maker, maker)
        return record
    settled = _read_again(store, replace(record, maker=maker))
    write(store, settled)
    return settled


def end_part(store: Store, record: RunRecord, part: Part, shards: int, done: Collection[int]) -> RunRecord:
    """The record in which all of a part's input was read; `done` were whole before.

    Raises RunError if the input has another number of shards now.
    """
    found = _read_again(store, record)
    part = next(one for one in found.parts if one.inputs == part.inputs)
    last = max(done, default=-1) if part == found.parts[-1] else -1
    made = max(part.shards or 0, last + 1 - part.first_shard)
    if made > shards or part.shards not in (None, shards):
        what = f"the input has changed: {made} shards were made of it, and now it has rows for {shards}"
        raise RunError(what, fix=f"restore it, {_BEGIN_AGAIN}")
    ended = replace(part, shards=shards)
    settled = replace(found, parts=tuple(ended if one == part else one for one in found.parts))
    if settled != found:
        write(store, settled)
    return settled


def _read_again(store: Store, record: RunRecord) -> RunRecord:
    """The record as other runs have left it since. Raises RunError if one of them has begun anew."""
    found = read(store)
    _check_same(store, found, record)
    if not {part.inputs for part in record.parts} <= {part.inputs for part in found.parts}:
        what = f"another run has begun in {store.url}, with another input"
        raise RunError(what, fix="name another folder, or stop that run and give this command again")
    if found.maker is not None and record.maker is not None:
        _check_maker(store, found.maker, record.maker)
    return replace(found, maker=found.maker or record.maker)


def _check_maker(store: Store, found: Maker, asked: Maker) -> None:
    for name, begun, now in differences(found, asked):
        what = f"{store.url} was begun with {name} {begun}, and this is {now}, which may draw other bytes"
        raise RunError(what, fix=f"go on with {begun}, {_BEGIN_AGAIN}")


def _check_ours(store: Store, names: Sequence[str]) -> None:
    others = [name for name in names if not is_ours(name) and not name.startswith(".")]
    if names and (others or RECORD not in names):
        what = f"{store.url} holds other files ({', '.join((others or list(names))[:3])}), so nothing is overwritten"
        raise OutputError(what, fix="name another folder, or move them away")


def _check_same(store: Store, found: RunRecord, asked: RunRecord) -> None:
    differing = differences(found.settings, asked.settings)
    for name, begun, now in sorted(differing, key=lambda one: one[0] != "candidates"):  # they decide what count means
        option = option_of(name, asked.settings)
        what = f"{store.url} was begun with {option} {_shown(begun)}, and this command has {_shown(now)}"
        raise RunError(what, fix=f"use the same, {_BEGIN_AGAIN}")
    if found.additional_types != asked.additional_types:
        raise RunError(
            f"the additional columns of {store.url} have other types: {found.additional_types}",
            fix=f"give an input with the same types, {_BEGIN_AGAIN}",
        )


def _shown(value: object) -> str:
    if isinstance(value, tuple):
        return ",".join(map(str, value)) or "none"
    return "none" if value is None else str(value)


def _choose_part(
    store: Store, found: RunRecord, inputs: tuple[str, ...], mode: IncrementalMode
) -> tuple[RunRecord, Part]:
    """The part of these inputs; `extend` adds it if it is new."""
    for part in found.parts:
        if part.inputs == inputs:
            return found, part
    last = found.parts[-1]
    if mode != "extend":
        raise RunError(
            f"{store.url} was begun with another input: {', '.join(last.inputs[:3])}",
            fix="give the same input, add this one with --incremental-mode extend, or name another folder",
        )
    if last.shards is None:
        fix = f"give the command for {', '.join(last.inputs[:3])} again first"
        raise RunError(f"{store.url} is not finished, so nothing can be added", fix=fix)
    added = Part(inputs, last.first_shard + last.shards)
    return replace(found, parts=(*found.parts, added)), added
