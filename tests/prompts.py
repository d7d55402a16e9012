"""Prompts that tokenizers read in different ways, for those that must read them as Python's does."""

from __future__ import annotations

import random
import unicodedata

WORDS = (
    *("cat", "GRINNING", "it's", "don't", "I'LL", "we've", "12345", "½", "ⅷ", "ÄÖÜ", "naïve", "e\u0301", "İstanbul"),
    *("ΣΑΣ", "猫", "🐱", "👨\u200d👩\u200d👧", "<|endoftext|>", "<|ENDOFTEXT|>", "<|StartOfText|>", "!", "!!!"),
    *("\u00a0", "\u2003", "\t", "\n", "\u200b", "\u0301", "ﬁ", "Ǆ", "한글", "각", "ไทย", "हिन्दी", "العربية"),
    *("$", "_", "--", "''", "'s", "\u180e", "\x1c", "\u0085", "𝔘", "ß", "ẞ", "\u1e9b\u0323", "a" * 300),
)


def varied_prompt(chance: random.Random) -> str:
    """Words with and without spaces between them, or any characters that this Python's Unicode knows."""
    kind, length = chance.random(), chance.randint(1, 12)
    if kind < 0.7:
        return (" " if kind < 0.4 else "").join(chance.choice(WORDS) for _ in range(length))
    points = (chance.randrange(1, 0x3000 if kind < 0.9 else 0x110000) for _ in range(3 * length))
    # What this Python's Unicode has not assigned may be a letter for utf8proc, and none for tokenizers.
    return "".join(chr(point) for point in points if unicodedata.category(chr(point)) not in ("Cn", "Cs"))
