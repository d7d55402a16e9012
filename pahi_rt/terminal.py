"""Make text from outside, such as a file's name or a prompt in a picture, safe for a terminal and for a shell.

A control character can move the cursor, hide or rewrite what was printed before, or type words on the user's command
line. A character that turns the direction of writing can make one name look like another.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable, Sequence

# C0, DEL and C1; marks, embeddings and isolates of direction; separators of lines and paragraphs; surrogates, except
# those that stand for a byte that is not UTF-8.
_UNFIT = re.compile("[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udc7f\udd00-\udfff]")
_BYTE, _NO_BYTE = re.compile("[\udc80-\udcff]"), re.compile("[\ud800-\udc7f\udd00-\udfff]")
_ESCAPES = {"\n": r"\n", "\r": r"\r", "\t": r"\t"}


def printable(text: str) -> str:
    r"""The text on one line. Characters that control a terminal become escapes, such as \x1b or \u202e.

    Bytes of file names that are not UTF-8 stay as they are: the surrogates U+DC80 to U+DCFF.
    """
    text = _UNFIT.sub(_escape, text)
    # A forged name may spell a control character in such bytes.
    text = text.encode("utf-8", "surrogateescape").decode("utf-8", "surrogateescape")
    return _UNFIT.sub(_escape, text)


def command(*words: object) -> str:
    """A command as it can be typed. Words are quoted where the shell would read them differently."""
    return " ".join(_quote(str(word)) for word in words)


def table(rows: Iterable[Sequence[object]], indent: str = "") -> list[str]:
    """Rows of cells in aligned columns, two spaces apart, as lines."""
    cells = [[printable(str(cell)) for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    lines = ("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in cells)
    return [(indent + line).rstrip() for line in lines]


def _escape(found: re.Match[str]) -> str:
    code = ord(found[0])
    return _ESCAPES.get(found[0]) or (f"\\x{code:02x}" if code < 256 else f"\\u{code:04x}")


def _quote(word: str) -> str:
    if not (_UNFIT.search(word) or _BYTE.search(word)):
        return shlex.quote(word)
    # $'...' works in bash, zsh and POSIX shells since 2024. No argument can hold other surrogates.
    content = _NO_BYTE.sub("?", word).encode("utf-8", "surrogateescape")
    return "$'" + "".join(_quote_byte(byte) for byte in content) + "'"


def _quote_byte(byte: int) -> str:
    return chr(byte) if 32 <= byte < 127 and chr(byte) not in "\\'" else f"\\x{byte:02x}"
