"""Dataclasses <-> JSON, read strictly: what does not fit is an error that names its place."""

from __future__ import annotations

import math
from dataclasses import fields
from types import NoneType, UnionType
from typing import Any, TypeVar, Union, get_args, get_origin, get_type_hints

from pahi_rt.errors import BundleError

FIX = "export the bundle again, or get a fresh copy of it"

R = TypeVar("R", bound="Record")


class Record:
    """Base of dataclasses that are JSON objects: strict `from_dict`, plain `to_dict`."""

    @classmethod
    def from_dict(cls: type[R], data: object, where: str = "JSON") -> R:
        """Raises BundleError that names the first key of `data` (at `where`) that does not fit."""
        if not isinstance(data, dict):
            raise mismatch("an object", data, where)
        kinds = get_type_hints(cls)
        for key in data.keys() - kinds.keys():
            raise BundleError(f"{where}: unknown key {key!r}", fix=FIX)
        for key in kinds.keys() - data.keys():
            raise BundleError(f"{where}: missing key {key!r}", fix=FIX)
        return cls(**{key: _read(kind, data[key], f"{where}: {key}") for key, kind in kinds.items()})

    def to_dict(self) -> dict[str, Any]:
        """Only what JSON has: objects with string keys, lists, strings, numbers, null."""
        return {field.name: _plain(getattr(self, field.name)) for field in fields(self)}  # type: ignore[arg-type]


def _read(kind: Any, value: object, where: str) -> Any:
    origin, args = get_origin(kind), get_args(kind)
    if origin in (Union, UnionType):
        return _read_union(args, value, where)
    if origin is tuple:
        return _read_tuple(args, value, where)
    if origin is dict:
        return _read_dict(args, value, where)
    if issubclass(kind, Record):
        return kind.from_dict(value, where)
    if kind is float and type(value) in (int, float):
        return _read_float(value, where)
    if type(value) is not kind:
        raise mismatch(f"a value of type {kind.__name__}", value, where)
    return value


def _read_union(kinds: tuple[Any, ...], value: object, where: str) -> Any:
    if value is None and NoneType in kinds:
        return None
    choices = [kind for kind in kinds if kind is not NoneType]
    if len(choices) == 1:
        return _read(choices[0], value, where)
    for kind in choices:
        if type(value) is kind or (kind is float and type(value) is int):
            return _read(kind, value, where)
    raise mismatch(" or ".join(kind.__name__ for kind in choices), value, where)


def _read_tuple(kinds: tuple[Any, ...], value: object, where: str) -> tuple[Any, ...]:
    if not isinstance(value, list):
        raise mismatch("a list", value, where)
    if kinds[-1] is Ellipsis:
        kinds = kinds[:1] * len(value)
    if len(value) != len(kinds):
        raise mismatch(f"a list of {len(kinds)}", value, where)
    return tuple(_read(kind, item, f"{where}[{i}]") for i, (kind, item) in enumerate(zip(kinds, value, strict=True)))


def _read_dict(kinds: tuple[Any, ...], value: object, where: str) -> dict[Any, Any]:
    if not isinstance(value, dict):
        raise mismatch("an object", value, where)
    return {key: _read(kinds[1], item, f"{where}: {key}") for key, item in value.items()}


def _read_float(value: Any, where: str) -> float:
    try:
        number = float(value)
    except OverflowError:
        number = math.inf
    if not math.isfinite(number):
        raise mismatch("a finite number", value, where)
    return number


def _plain(value: Any) -> Any:
    if isinstance(value, Record):
        return value.to_dict()
    if isinstance(value, tuple | list):
        return [_plain(item) for item in value]
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    return value


def mismatch(expected: str, value: object, where: str) -> BundleError:
    """The error that `value`, at `where`, is not what was expected."""
    return BundleError(f"{where}: expected {expected}, found {str(value)[:40]!r}", fix=FIX)
