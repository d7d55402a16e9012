"""Protobuf's wire format: a message is a row of numbered fields, each a number or a run of bytes.

Stricter than protobuf, so that no other reader understands the same bytes otherwise: a field that the message is not
known to have, a group, and a second value where one belongs are errors. (Protobuf would skip, skip, and merge.)
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

NUMBER, EIGHT_BYTES, BYTES, FOUR_BYTES = 0, 1, 2, 5
"""Wire types: how the value of a field is written."""
Field = tuple[int, int, int]
"""Tag, then where its bytes begin and end; of a NUMBER its value, and where it ends."""
_LONGEST = 10
"""Bytes of a number of 64 bits."""


@dataclass(frozen=True)
class Message:
    """What a message may hold."""

    name: str
    """For errors."""
    tags: dict[int, int]
    """Of each field -> a bit of its own, or 0 if it may be there more than once."""


class Malformed(ValueError):
    """Bytes that are not the message they should be."""


def tag(field: int, wire_type: int = BYTES) -> int:
    """What is written before the value of a field."""
    return field << 3 | wire_type


def message(name: str, once: Iterable[int], repeated: Iterable[int] = ()) -> Message:
    """A message with the fields of these tags."""
    return Message(name, dict.fromkeys(repeated, 0) | {known: 1 << place for place, known in enumerate(once)})


class Wire:
    """Bytes to read messages from: each of at most `most` fields less those read before, which bounds the time."""

    def __init__(self, content: bytes, most: int) -> None:
        self._content = content
        self._left = most

    def fields(self, start: int, end: int, kind: Message) -> Iterator[Field]:
        """The fields of the message that lies at start..end. Raises Malformed."""
        content, known, at, seen, left = self._content, kind.tags, start, 0, self._left
        while at < end:
            found, at = (content[at], at + 1) if content[at] < 0x80 else self._number(at, end)
            bit = known.get(found)
            if bit is None or bit & seen:
                raise Malformed(f"{kind.name} has a field {found >> 3} at byte {at} that it may not have, or not twice")
            seen |= bit
            left -= 1
            # What is short is read here, for speed: nearly all numbers are below 128.
            if found & 7 == BYTES and at < end and content[at] < 0x80:
                value, at = at + 1, at + 1 + content[at]
            else:
                value, at = self._value(found & 7, at, end)
            if at > end or left < 0:
                raise Malformed(f"{kind.name} is cut off at byte {end}, or has too many fields")
            yield found, value, at
        self._left = min(left, self._left)

    def numbers(self, start: int, end: int) -> Iterator[int]:
        """Numbers that lie one after the other. Raises Malformed."""
        while start < end:
            value, start = self._number(start, end)
            yield value

    def _value(self, wire_type: int, at: int, end: int) -> tuple[int, int]:
        """A number, or where the bytes begin; and where the value ends."""
        if wire_type == NUMBER:
            return self._number(at, end)
        if wire_type == BYTES:
            size, at = self._number(at, end)
        else:
            size = 8 if wire_type == EIGHT_BYTES else 4
        return at, at + size

    def _number(self, at: int, end: int) -> tuple[int, int]:
        """The number that begins at `at`, and where it ends."""
        if at < end and self._content[at] < 0x80:
            return self._content[at], at + 1
        value = 0
        for place, byte in enumerate(self._content[at : min(at + _LONGEST, end)]):
            value |= (byte & 0x7F) << 7 * place
            if byte < 0x80:
                return value, at + place + 1
        raise Malformed(f"a number is cut off at byte {at}")
