"""Dataclasses <-> JSON. schema.py reads them strictly."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields, replace
from typing import Any, ClassVar, TypeVar

from pahi_rt.errors import BundleError, PahiError
from pahi_rt.schema import IF_ANY, INLINE, Place, read_value

FIX = "export the bundle again, or get a fresh copy of it"
MAX_DEPTH = 32
"""Levels of nested objects and lists that a JSON document may have."""
MAX_DIGITS = 16
"""Characters that a whole number in JSON may have, its sign included."""

R = TypeVar("R", bound="Record")


@dataclass(frozen=True)
class JsonPlace(Place):
    """A place in a JSON document, such as "pahi.json: graphs[0]: steps"."""

    where: str
    error: type[PahiError]
    fix: str
    names: ClassVar[Mapping[type, str]] = {
        dict: "an object",
        list: "a list",
        int: "a value of type int",
        float: "a finite number",
        bool: "a value of type bool",
        str: "a value of type str",
    }
    none: ClassVar[str | None] = None
    takes_empty_text: ClassVar[bool] = True

    def at(self, key: str) -> JsonPlace:
        return replace(self, where=f"{self.where}: {key}")

    def item(self, index: int) -> JsonPlace:
        return replace(self, where=f"{self.where}[{index}]")

    def mismatch(self, expected: str, value: object) -> PahiError:
        return self.error(f"{self.where}: expected {expected}, found {str(value)[:40]!r}", fix=self.fix)

    def refuse(self, value: object, allowed: str) -> PahiError:
        return self.mismatch(allowed, value)

    def unknown(self, key: str, known: Iterable[str]) -> PahiError:
        return self.error(f"{self.where}: unknown key {key!r}", fix=self.fix)

    def missing(self, key: str) -> PahiError:
        return self.error(f"{self.where}: missing key {key!r}", fix=self.fix)


class Record:
    """Base of dataclasses that are JSON objects: `from_dict` reads strictly, `to_dict` writes plain values."""

    read_error: ClassVar[type[PahiError]] = BundleError
    """What `from_dict` raises, with `read_fix`."""
    read_fix: ClassVar[str] = FIX

    @classmethod
    def from_dict(cls: type[R], data: object, where: str = "JSON") -> R:
        """Read `data`, which is at the place `where`. Raises `read_error`, which names the key that does not fit."""
        record: R = read_value(cls, data, JsonPlace(where, cls.read_error, cls.read_fix))
        return record

    def to_dict(self) -> dict[str, Any]:
        """The record in values of JSON: dicts with string keys, lists, strings, numbers, booleans and None."""
        data: dict[str, Any] = {}
        for field in fields(self):  # type: ignore[arg-type]  # every record is a dataclass
            value = _plain(getattr(self, field.name))
            if field.metadata == INLINE:
                data |= value or {}
            elif field.metadata != IF_ANY or value is not None:
                data[field.name] = value
        return data


def parse_json(raw: bytes, where: str) -> Any:
    """Parse the JSON document `raw`. Raises BundleError for anything that other readers of JSON may read differently.

    That is: another encoding than UTF-8, a key twice, half of a surrogate pair, NaN and infinity, numbers that are too
    long, and more than MAX_DEPTH levels.
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


def _plain(value: Any) -> Any:
    if isinstance(value, Record):
        return value.to_dict()
    if isinstance(value, tuple | list):
        return [_plain(item) for item in value]
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    return value
