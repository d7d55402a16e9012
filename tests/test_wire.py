from __future__ import annotations

import pytest

from pahi_rt.wire import EIGHT_BYTES, FOUR_BYTES, NUMBER, Malformed, Wire, message, tag
from tests.graph_bytes import field, varint

KIND = message(
    "a thing",
    once=[tag(1, NUMBER), tag(2), tag(20, NUMBER)],
    repeated=[tag(3), tag(4, EIGHT_BYTES), tag(5, FOUR_BYTES)],
)


def read(content: bytes, most: int = 100) -> list[tuple[int, int | bytes]]:
    fields = Wire(content, most).fields(0, len(content), KIND)
    return [(found >> 3, start if found & 7 == NUMBER else content[start:end]) for found, start, end in fields]


def test_fields() -> None:
    long = b"x" * 1000
    content = field(1, 2**63) + field(2, long) + field(3, "") + field(3, "ab") + field(20, 300)
    content += b"\x21" + bytes(8) + b"\x2d" + b"1234"
    expected = [(1, 2**63), (2, long), (3, b""), (3, b"ab"), (20, 300), (4, bytes(8)), (5, b"1234")]
    assert read(content) == expected
    assert read(b"") == []


@pytest.mark.parametrize("value", [0, 1, 127, 128, 300, 2**32, 2**63, 2**64 - 1, -1])
def test_numbers(value: int) -> None:
    content = varint(value) + varint(5)
    assert list(Wire(content, 1).numbers(0, len(content))) == [value % 2**64, 5]


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (field(6, 1), "a thing has a field 6 at byte 1"),
        (field(1, "text"), "field 1 at byte 1"),  # of another wire type
        (field(1, 1) * 2, "field 1 at byte 3"),
        (field(2, "a") + field(3, "b") + field(2, "a"), "or not twice"),
        (b"\x00\x01", "field 0"),
        (b"\x1b\x1c", "field 3"),  # a group
        (b"\x1e\x1f", "field 3"),  # wire types that there are not
        (b"\x12", "cut off"),
        (b"\x12\x05abcd", "cut off"),
        (b"\x12\xff\xff\xff\xff\x0f" + bytes(100), "cut off"),
        (b"\x12" + b"\xff" * 9 + b"\x01" + bytes(100), "cut off"),  # 2**64 - 1 bytes
        (b"\x08", "cut off"),
        (b"\x08\x80", "cut off"),
        (b"\x08" + b"\x80" * 10 + b"\x00", "cut off"),  # a number of more than 64 bits
        (b"\x80", "cut off"),
        (b"\xff" * 20, "cut off"),
        (b"\x21" + bytes(7), "cut off"),
        (b"\x2d" + bytes(3), "cut off"),
    ],
)
def test_what_is_malformed(content: bytes, what: str) -> None:
    with pytest.raises(Malformed, match=what):
        read(content)


def test_a_message_ends_where_it_says() -> None:
    """A length that fits into the bytes, but not into the message."""
    content = field(2, b"\x1a\x03a") + b"bcd"
    wire = Wire(content, 9)
    with pytest.raises(Malformed, match="cut off"):
        list(wire.fields(2, 5, KIND))


def test_fields_are_counted() -> None:
    assert len(read(field(3, "") * 100)) == 100
    with pytest.raises(Malformed, match="too many fields"):
        read(field(3, "") * 101)
    wire = Wire(field(3, "") * 60, 100)
    assert len(list(wire.fields(0, 120, KIND))) == 60
    with pytest.raises(Malformed, match="too many fields"):
        list(wire.fields(0, 120, KIND))
