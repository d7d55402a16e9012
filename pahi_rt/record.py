"""Dataclasses <-> JSON, read strictly: what does not fit is an error that names its place."""

from __future__ import annotations

import json
import math
from dataclasses import fields
from types import NoneType, UnionType
from typing import Any, TypeVar, Union, get_args, get_origin, get_type_hints

from pahi_rt.errors import BundleError

FIX = "export the bundle again, or get a fresh copy of it"
MAX_DEPTH = 32
"""Of JSON: objects and lists inside one another."""
MAX_DIGITS = 16
"""Of a whole number in JSON, its sign included."""

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


def parse_json(raw: bytes, where: str) -> Any:
    """What `raw` holds. Raises BundleError for what readers of JSON understand in more than one way.

    That is: another encoding than UTF-8, a key twice, halves of surrogate pairs, numbers that are none or too large.
    """
    try:
        data = json.loads(
            raw.decode(), object_pairs_hook=_distinct, parse_constant=_refuse_number, parse_int=_short_number
        )
        json.dumps(data, ensure_ascii=False).encode()  # raises for a lone surrogate
    except (ValueError, RecursionError) as error:
        raise BundleError(f"{where} is not valid JSON: {str(error)[:200]}", fix=FIX) from error
    if _is_deeper(data, MAX_DEPTH):
        raise BundleError(f"{where} is not valid JSON: more than {MAX_DEPTH} levels deep", fix=FIX)
    return data


def _distinct(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("an object has a key twice")
    return found


def _refuse_number(text: str) -> float:
    raise ValueError(f"{text} is not a number of JSON")


def _short_number(text: str) -> int:
    if len(text) > MAX_DIGITS:
        raise ValueError(f"a number has {len(text)} characters")
    return int(text)


def _is_deeper(data: Any, most: int) -> bool:
    level = [data]
    for _ in range(most):
        nested = [item for item in level if isinstance(item, dict | list)]
        level = [child for item in nested for child in (item.values() if isinstance(item, dict) else item)]
    return bool(level)


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
