"""Dataclasses <-> the JSON objects of a report."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import MISSING, Field, fields
from types import NoneType, UnionType
from typing import Any, TypeVar, Union, get_args, get_origin, get_type_hints

IF_ANY = {"if any": True}
"""Metadata of a field whose key is left out of the JSON when its value is None."""
INLINE = {"inline": True}
"""Metadata of a field whose record has no key: its fields stand among those of the record around it."""

R = TypeVar("R", bound="Record")


class Record:
    """Base of dataclasses that are JSON objects. A field with a default may be missing, as in older reports."""

    @classmethod
    def from_dict(cls: type[R], data: Any) -> R:
        """Raises ValueError that names what does not fit."""
        if not isinstance(data, dict):
            raise ValueError(f"{cls.__name__} is an object, not {str(data)[:40]!r}")
        kinds, left, values = get_type_hints(cls), dict(data), {}
        for field in fields(cls):  # type: ignore[arg-type]  # every record is a dataclass
            found = _take(field, kinds[field.name], left)
            if found is not MISSING:
                values[field.name] = found
        if left:
            raise ValueError(f"{cls.__name__} has no key {', '.join(map(repr, left))}")
        return cls(**values)

    def to_dict(self) -> dict[str, Any]:
        """The object as JSON has it: string keys, lists, strings, numbers, null."""
        data: dict[str, Any] = {}
        for field in fields(self):  # type: ignore[arg-type]  # every record is a dataclass
            value = getattr(self, field.name)
            if field.metadata == INLINE:
                data |= value.to_dict() if value is not None else {}
            elif field.metadata != IF_ANY or value is not None:
                data[field.name] = _plain(value)
        return data


def _take(field: Field[Any], kind: Any, left: dict[str, Any]) -> Any:
    """The value of one field, whose keys are taken out of `left`; MISSING if there is none and none is needed."""
    if field.metadata == INLINE:
        (record,) = (choice for choice in get_args(kind) or (kind,) if choice is not NoneType)
        found = {name: left.pop(name) for name in get_type_hints(record) if name in left}
        return record.from_dict(found) if found or field.default is MISSING else MISSING
    if field.name in left:
        return _read(kind, left.pop(field.name), field.name)
    if field.default is MISSING:
        raise ValueError(f"missing key {field.name!r}")
    return MISSING


def _read(kind: Any, value: Any, where: str) -> Any:
    origin, args = get_origin(kind), get_args(kind)
    if kind is Any:
        return value
    if origin in (Union, UnionType):
        return _read_union(args, value, where)
    if origin is tuple and isinstance(value, list):
        kinds = args[:1] * len(value) if args[-1] is Ellipsis else args
        return tuple(_read(inner, item, where) for inner, item in zip(kinds, value, strict=True))
    if origin is Mapping and isinstance(value, dict):
        return {key: _read(args[1], item, f"{where}: {key}") for key, item in value.items()}
    if isinstance(kind, type) and issubclass(kind, Record) and isinstance(value, dict):
        return kind.from_dict(value)
    if type(value) is kind or (kind is float and type(value) is int):
        return value
    raise ValueError(f"{where}: {str(value)[:40]!r} does not fit")


def _read_union(kinds: tuple[Any, ...], value: Any, where: str) -> Any:
    """The value as the first of `kinds` that it fits."""
    if value is None and NoneType in kinds:
        return None
    problems = []
    for kind in (kind for kind in kinds if kind is not NoneType):
        try:
            return _read(kind, value, where)
        except ValueError as error:
            problems.append(str(error))
    raise ValueError(f"{where}: {'; or '.join(problems)}")


def _plain(value: Any) -> Any:
    if isinstance(value, Record):
        return value.to_dict()
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    return value
