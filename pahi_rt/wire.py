"""Protobuf's wire format: a message is a sequence of numbered fields, each a number or a run of bytes.

This reader of https://protobuf.dev/programming-guides/encoding is stricter than protobuf, so that no other reader can
read the same bytes differently. Unknown fields, groups, and a second value of a field that takes one are errors.
(Protobuf would skip, skip, and merge.)
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

NUMBER, EIGHT_BYTES, BYTES, FOUR_BYTES = 0, 1, 2, 5
"""Wire types: how the value of a field is encoded."""
Field = tuple[int, int, int]
"""(tag, begin, end) of the field's bytes. A NUMBER has its value in place of the begin."""
_LONGEST = 10
"""The most bytes of an encoded number of 64 bits."""


@dataclass(frozen=True)
class Message:
    """A kind of message: the fields that it may hold."""

    name: str
    """Its name in errors."""
    tags: dict[int, int]
    """Tag of each field -> a bit of its own, or 0 if the field may be repeated."""


class Malformed(ValueError):
    """Bytes that are not the message they should be."""


def tag(field: int, wire_type: int = BYTES) -> int:
    """The tag of a field: its number and its wire type, as encoded before its value."""
    return field << 3 | wire_type


def message(name: str, once: Iterable[int], repeated: Iterable[int] = ()) -> Message:
    """A kind of message: the tags of fields that occur at most once, and of fields that may be repeated."""
    return Message(name, dict.fromkeys(repeated, 0) | {known: 1 << place for place, known in enumerate(once)})


class Wire:
    """Reads messages from `content`.

    A message may have `most` fields, less those of the messages that were read before it. This bounds the time.
    """

    def __init__(self, content: bytes, most: int) -> None:
        self._content = content
        self._left = most

    def fields(self, start: int, end: int, kind: Message) -> Iterator[Field]:
        """The fields of the message in the bytes start..end. Raises Malformed."""
        content, known, at, seen, left = self._content, kind.tags, start, 0, self._left
        while at < end:
            found, at = (content[at], at + 1) if content[at] < 0x80 else self._number(at, end)
            bit = known.get(found)
            if bit is None or bit & seen:
                raise Malformed(f"{kind.name} has a field {found >> 3} at byte {at} that it may not have, or not twice")
            seen |= bit
            left -= 1
            # The short case is inlined for speed: nearly all numbers are below 128.
            if found & 7 == BYTES and at < end and content[at] < 0x80:
                value, at = at + 1, at + 1 + content[at]
            else:
                value, at = self._value(found & 7, at, end)
            if at > end or left < 0:
                raise Malformed(f"{kind.name} is cut off at byte {end}, or has too many fields")
            yield found, value, at
        self._left = min(left, self._left)

    def numbers(self, start: int, end: int) -> Iterator[int]:
        """The numbers of a packed field, in the bytes start..end. Raises Malformed."""
        while start < end:
            value, start = self._number(start, end)
            yield value

    def _value(self, wire_type: int, at: int, end: int) -> tuple[int, int]:
        """The value of a number, or the begin of a run of bytes; then the end of the value."""
        if wire_type == NUMBER:
            return self._number(at, end)
        if wire_type == BYTES:
            size, at = self._number(at, end)
        else:
            size = 8 if wire_type == EIGHT_BYTES else 4
        return at, at + size

    def _number(self, at: int, end: int) -> tuple[int, int]:
        """The number that begins at `at`, and its end."""
        if at < end and self._content[at] < 0x80:
            return self._content[at], at + 1
        value = 0
        for place, byte in enumerate(self._content[at : min(at + _LONGEST, end)]):
            value |= (byte & 0x7F) << 7 * place
            if byte < 0x80:
                return value, at + place + 1
        raise Malformed(f"a number is cut off at byte {at}")
