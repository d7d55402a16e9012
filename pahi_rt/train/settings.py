"""Reads TOML into frozen dataclasses with schema.py, and writes it: a table for each dataclass, a key for each field.

Every error names the key, and the file or the override that it comes from.
"""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, fields, is_dataclass
from typing import Any, ClassVar

from pahi_rt.errors import RecipeError
from pahi_rt.schema import Place

NONE = "none"
"""The text for an optional setting that is left out: TOML has no null."""


@dataclass(frozen=True)
class TomlPlace(Place):
    """A key of a recipe; makes the errors about its value."""

    names: ClassVar[Mapping[type, str]] = {
        dict: "a table",
        list: "a list",
        int: "a whole number",
        float: "a number",
        bool: "true or false",
        str: "text",
    }
    none: ClassVar[str | None] = NONE
    takes_empty_text: ClassVar[bool] = False

    file: str
    origins: Mapping[tuple[str, ...], str]
    """Key -> the override that set it."""
    key: tuple[str, ...] = ()

    def at(self, *names: str) -> TomlPlace:
        return TomlPlace(self.file, self.origins, (*self.key, *names))

    def item(self, index: int) -> TomlPlace:
        return self.at(str(index))

    def mismatch(self, expected: str, value: object) -> RecipeError:
        is_structure = expected in (self.names[dict], self.names[list])
        fix = f"write {expected}; the recipes that ship show the form" if is_structure else f"use {expected}"
        return self.error(f"{self} is {value!r}, not {expected}", fix)

    def refuse(self, value: object, allowed: str) -> RecipeError:
        is_number = isinstance(value, int | float)
        return self.error(f"{self} is {value!r}{', which is out of range' if is_number else ''}", f"use {allowed}")

    def unknown(self, key: str, known: Iterable[str]) -> RecipeError:
        near = difflib.get_close_matches(key, known, n=1)
        fix = f"write {near[0]}" if near else f"remove it, or use one of {', '.join(known)}"
        return self.at(key).error(f"there is no setting {self.at(key)}", fix)

    def missing(self, key: str) -> RecipeError:
        return self.error(f"{self.at(key)} is missing", f"add it, or give --set {self.at(key)}=VALUE")

    def __str__(self) -> str:
        return ".".join(name if re.fullmatch(r"[\w-]+", name) else json.dumps(name) for name in self.key)

    def error(self, problem: str, fix: str) -> RecipeError:
        # An override of a table above this key also set this key.
        above = (self.origins.get(self.key[:length]) for length in range(len(self.key), 0, -1))
        origin = next((override for override in above if override), self.file)
        return RecipeError(f"{origin}: {problem}", fix=fix)


def emit(settings: Any) -> str:
    """A dataclass as TOML: first its own keys, then its tables. `read_value` reads it back as the same dataclass."""
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
        # A JSON string is a TOML string, except for the one character that JSON does not escape.
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{_emit(key)} = {_emit(part)}" for key, part in value.items()) + " }"
    if isinstance(value, tuple):
        return "[" + ", ".join(map(_emit, value)) + "]"
    return str(value).lower() if isinstance(value, bool) else repr(value)
