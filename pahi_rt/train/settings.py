"""Settings from TOML to frozen dataclasses and back, strictly: a table per dataclass, a key per field, nothing else.

A field's annotation says what it takes: int, float, bool, str, Literal, Annotated with a Range, a tuple or a dict of
these, another dataclass, or one of these | None or | Literal. Every error names the key, and the file or the override
it is in.
"""

from __future__ import annotations

import difflib
import json
import math
import re
from collections.abc import Mapping
from dataclasses import MISSING, asdict, dataclass, fields, is_dataclass
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

from pahi_rt.errors import PahiError

NONE = "none"
"""What TOML has no word for: the value of an optional setting that is left out."""


@dataclass(frozen=True)
class Range:
    """The numbers that a setting may have."""

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


@dataclass(frozen=True)
class Place:
    """A key of a recipe, for the errors about its value."""

    file: str
    origins: Mapping[tuple[str, ...], str]
    """Key -> the override that it comes from."""
    key: tuple[str, ...] = ()

    def at(self, *names: str) -> Place:
        return Place(self.file, self.origins, (*self.key, *names))

    def __str__(self) -> str:
        return ".".join(name if re.fullmatch(r"[\w-]+", name) else json.dumps(name) for name in self.key)

    def error(self, problem: str, fix: str) -> PahiError:
        above = (self.origins.get(self.key[:length]) for length in range(len(self.key), 0, -1))
        origin = next((override for override in above if override), self.file)
        return PahiError(f"{origin}: {problem}", fix=fix)


def read_value(kind: Any, value: Any, place: Place) -> Any:
    """A value of TOML as the annotation `kind` of a field."""
    if is_dataclass(kind):
        return _read_table(kind, value, place)
    origin, arguments = get_origin(kind), get_args(kind)
    if origin in (Union, UnionType):
        return _read_either(arguments[0], arguments[1], value, place)
    if origin is Annotated:
        return _read_ranged(arguments[0], arguments[1], value, place)
    if origin is Literal:
        return _read_choice(arguments, value, place)
    if origin is tuple:
        parts = enumerate(_expect(list, value, place, "a list"))
        return tuple(read_value(arguments[0], part, place.at(str(index))) for index, part in parts)
    if origin is dict:
        table = _expect(dict, value, place, "a table")
        return {name: read_value(arguments[1], part, place.at(name)) for name, part in table.items()}
    return _read_scalar(kind, value, place)


def _read_table(kind: Any, value: Any, place: Place) -> Any:
    table = _expect(dict, value, place, "a table")
    hints = get_type_hints(kind, include_extras=True)
    required = [field.name for field in fields(kind) if field.default is MISSING]
    for name in table:
        if name not in hints:
            near = difflib.get_close_matches(name, hints, n=1)
            fix = f"write {near[0]}" if near else f"remove it, or use one of {', '.join(hints)}"
            raise place.at(name).error(f"there is no setting {place.at(name)}", fix)
    for name in required:
        if name not in table and not is_dataclass(hints[name]):
            raise place.error(f"{place.at(name)} is missing", f"add it, or give --set {place.at(name)}=VALUE")
    # A table that is missing lacks what is missing in it.
    values = {name: {} for name in required} | table
    return kind(**{name: read_value(hints[name], part, place.at(name)) for name, part in values.items()})


def _read_either(kind: Any, other: Any, value: Any, place: Place) -> Any:
    """A value of the first kind, or one of the words that the second consists of."""
    words = (NONE,) if other is type(None) else get_args(other)
    if value in words:
        return None if other is type(None) else value
    try:
        return read_value(kind, value, place)
    except PahiError as error:
        more = "".join(f", or {json.dumps(word)}" for word in words)
        raise PahiError(error.what, fix=f"{error.fix}{more}") from error


def _read_ranged(kind: type, allowed: Range, value: Any, place: Place) -> Any:
    number = _read_scalar(kind, value, place)
    if number not in allowed:
        raise place.error(f"{place} is {number}, which is out of range", f"use {allowed}")
    return number


def _read_choice(choices: tuple[str, ...], value: Any, place: Place) -> str:
    if not isinstance(value, str) or value not in choices:
        raise place.error(f"{place} is {value!r}", f"use {', '.join(map(json.dumps, choices))}")
    return value


def _read_scalar(kind: type, value: Any, place: Place) -> Any:
    names = {int: "a whole number", float: "a number", bool: "true or false", str: "text"}
    # In Python true is a whole number, and a whole number is not a float; in a recipe it is the other way round.
    fits = type(value) is kind or (kind is float and type(value) is int and abs(value) < 2**63)
    if not fits or value == "" or (kind is float and not math.isfinite(value)):
        raise place.error(f"{place} is {value!r}, not {names[kind]}", f"use {names[kind]}")
    return kind(value)


def _expect(kind: type, value: Any, place: Place, name: str) -> Any:
    if not isinstance(value, kind):
        raise place.error(f"{place} is {value!r}, not {name}", f"write {name}; the recipes that ship show the form")
    return value


def emit(settings: Any) -> str:
    """A dataclass as TOML that `read_value` reads back as the same; its own keys first, then its tables."""
    rows = asdict(settings)
    tables = [field.name for field in fields(settings) if is_dataclass(getattr(settings, field.name))]
    lines = [f"{key} = {_emit(value)}" for key, value in rows.items() if key not in tables]
    for name in tables:
        lines += ["", f"[{name}]", *(f"{key} = {_emit(value)}" for key, value in rows[name].items())]
    return "\n".join(lines) + "\n"


def _emit(value: Any) -> str:
    """A value as TOML on one line."""
    if value is None:
        return _emit(NONE)
    if isinstance(value, str):
        # A string of JSON is one of TOML, but for the one character that JSON leaves as it is.
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{_emit(key)} = {_emit(part)}" for key, part in value.items()) + " }"
    if isinstance(value, tuple):
        return "[" + ", ".join(map(_emit, value)) + "]"
    return str(value).lower() if isinstance(value, bool) else repr(value)
