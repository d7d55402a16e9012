"""The one strict reader of records: values of JSON or TOML -> dataclasses, by the annotations of their fields.

A field may be an int, float, bool, str, Any, Literal, Annotated with a Range, a tuple or a mapping of these, another
dataclass, or a union of these. A field with a default may be missing. A value that does not fit, a missing key and an
unknown key are errors that name the place. Each format has its own names and errors: record.py for JSON,
train/settings.py for TOML.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from dataclasses import MISSING, dataclass, fields, is_dataclass
from functools import cache
from types import NoneType, UnionType
from typing import Annotated, Any, ClassVar, Literal, Union, get_args, get_origin, get_type_hints

from pahi_rt.errors import PahiError

INLINE = {"inline": True}
"""Metadata of a field whose record has no key: its fields stand among those of the record around it."""
IF_ANY = {"if any": True}
"""Metadata of a field whose key is left out when its value is None."""
LARGEST_INTEGER = 2**63
"""Whole numbers of this size and more are not accepted where a float is expected."""


@dataclass(frozen=True)
class Range:
    """The numbers that a field may have: from `low` to `high`."""

    low: float
    high: float = math.inf
    exclusive: bool = False
    """Whether the ends themselves are out of range."""

    def __contains__(self, number: float) -> bool:
        if self.exclusive:
            return self.low < number < self.high
        return self.low <= number <= self.high

    def __str__(self) -> str:
        if math.isinf(self.high):
            return f"more than {self.low}" if self.exclusive else f"{self.low} or more"
        return f"more than {self.low} and less than {self.high}" if self.exclusive else f"{self.low} to {self.high}"


class Place(ABC):
    """The place of a value in a file. It makes the errors, in the words of the file's format."""

    names: ClassVar[Mapping[type, str]]
    """dict, list, int, float, bool and str -> the format's name for it."""
    none: ClassVar[str | None]
    """The value that stands for None."""
    takes_empty_text: ClassVar[bool]
    """Whether "" is a valid text."""

    @abstractmethod
    def at(self, key: str) -> Place:
        """The place of a key in the record at this place."""

    @abstractmethod
    def item(self, index: int) -> Place:
        """The place of an item in the list at this place."""

    @abstractmethod
    def mismatch(self, expected: str, value: object) -> PahiError:
        """The error for a value of the wrong kind."""

    @abstractmethod
    def refuse(self, value: object, allowed: str) -> PahiError:
        """The error for a value of the right kind that is not allowed."""

    @abstractmethod
    def unknown(self, key: str, known: Iterable[str]) -> PahiError:
        """The error for a key that the record at this place does not know."""

    @abstractmethod
    def missing(self, key: str) -> PahiError:
        """The error for a key that the record at this place lacks."""


def read_value(kind: Any, value: Any, place: Place) -> Any:
    """Read a value of JSON or TOML as a field with the annotation `kind`. Raises the errors of `place`."""
    if kind is Any:
        return value
    if is_dataclass(kind):
        return _read_record(kind, value, place)
    origin, arguments = get_origin(kind), get_args(kind)
    if origin in (Union, UnionType):
        return _read_either(arguments, value, place)
    if origin is Annotated:
        return _read_ranged(arguments[0], arguments[1], value, place)
    if origin is Literal:
        return _read_choice(arguments, value, place)
    if origin is tuple:
        return _read_tuple(arguments, value, place)
    if origin in (dict, Mapping):
        table = _expect(dict, value, place)
        return {name: read_value(arguments[1], part, place.at(name)) for name, part in table.items()}
    return _read_scalar(kind, value, place)


def _read_record(kind: Any, value: Any, place: Place) -> Any:
    table = _expect(dict, value, place)
    known = _keys(kind)
    for name in table:
        if name not in known:
            raise place.unknown(name, known)
    return _read_fields(kind, table, place)


def _read_fields(kind: Any, table: Mapping[str, Any], place: Place) -> Any:
    """Read a record from those keys of `table` that are its own."""
    own, inline = _hints(kind)
    required = [field.name for field in fields(kind) if field.default is MISSING]
    for name in required:
        if name in own and name not in table:
            raise place.missing(name)
    records = {
        name: _read_fields(record, table, place)
        for name, record in inline.items()
        if name in required or any(key in table for key in _keys(record))
    }
    values = {name: read_value(own[name], part, place.at(name)) for name, part in table.items() if name in own}
    return kind(**records, **values)


@cache
def _hints(kind: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    """Field -> its annotation, and inline field -> its record."""
    hints = get_type_hints(kind, include_extras=True)
    own = {field.name: hints[field.name] for field in fields(kind) if field.metadata != INLINE}
    inline = {field.name: hints[field.name] for field in fields(kind) if field.metadata == INLINE}
    return own, {name: next(filter(is_dataclass, get_args(hint)), hint) for name, hint in inline.items()}


def _keys(kind: Any) -> list[str]:
    """The keys that a record may have, those of its inline records included."""
    own, inline = _hints(kind)
    return [*own, *(key for record in inline.values() for key in _keys(record))]


def _read_either(kinds: tuple[Any, ...], value: Any, place: Place) -> Any:
    """Read a value of a union: None, a word of a Literal, the kind whose type it has, or the first record that fits."""
    if value == place.none and NoneType in kinds:
        return None
    words = [word for kind in kinds if get_origin(kind) is Literal for word in get_args(kind)]
    if value in words:
        return value
    choices = [kind for kind in kinds if kind is not NoneType and get_origin(kind) is not Literal]
    if len(choices) > 1 and all(map(is_dataclass, choices)):
        return _read_first(choices, value, place)
    fitting = [kind for kind in choices if type(value) is kind or (kind is float and type(value) is int)]
    if len(choices) > 1 and not fitting:
        raise place.mismatch(" or ".join(kind.__name__ for kind in choices), value)
    also = [*([place.none] if place.none and NoneType in kinds else []), *words]
    try:
        return read_value((fitting or choices)[0], value, place)
    except PahiError as error:
        more = "".join(f', or "{word}"' for word in also)
        raise type(error)(error.what, fix=f"{error.fix}{more}") from error


def _read_first(records: list[Any], value: Any, place: Place) -> Any:
    """Read a value as the first of `records` that it fits."""
    problems = []
    for record in records:
        try:
            return _read_record(record, value, place)
        except PahiError as error:
            problems.append(error)
    raise type(problems[0])("; or ".join(error.what for error in problems), fix=problems[0].fix)


def _read_ranged(kind: type, allowed: Range, value: Any, place: Place) -> Any:
    number = _read_scalar(kind, value, place)
    if number not in allowed:
        raise place.refuse(number, str(allowed))
    return number


def _read_choice(choices: tuple[str, ...], value: Any, place: Place) -> str:
    if not isinstance(value, str) or value not in choices:
        raise place.refuse(value, ", ".join(f'"{choice}"' for choice in choices))
    return value


def _read_tuple(kinds: tuple[Any, ...], value: Any, place: Place) -> tuple[Any, ...]:
    items = _expect(list, value, place)
    if kinds[-1] is Ellipsis:
        kinds = kinds[:1] * len(items)
    if len(items) != len(kinds):
        raise place.mismatch(f"a list of {len(kinds)}", value)
    return tuple(read_value(kind, item, place.item(i)) for i, (kind, item) in enumerate(zip(kinds, items, strict=True)))


def _read_scalar(kind: type, value: Any, place: Place) -> Any:
    # Unlike in Python, True is not a whole number here, and a whole number is accepted as a float.
    fits = type(value) is kind or (kind is float and type(value) is int and abs(value) < LARGEST_INTEGER)
    if fits and kind is float:
        fits = math.isfinite(value)
    if not fits or (value == "" and not place.takes_empty_text):
        raise place.mismatch(place.names[kind], value)
    return kind(value)


def _expect(kind: type, value: Any, place: Place) -> Any:
    if not isinstance(value, kind):
        raise place.mismatch(place.names[kind], value)
    return value
