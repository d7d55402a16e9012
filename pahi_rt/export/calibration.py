"""Prompts that show what values a graph computes with, before it is rounded to 8 bits.

Those of a user's own kind are better; these are for want of them.
"""

from __future__ import annotations

from pathlib import Path

from pahi_rt.train.prompts import load_split

SUBJECTS = (
    "a portrait of an old woman",
    "a red fox",
    "a bowl of fruit",
    "a city street",
    "a sailing ship",
    "a mountain lake",
    "a knight in armour",
    "a robot reading a book",
)
STYLES = (
    "photograph, soft light",
    "oil painting, bright colours",
    "black and white, high contrast",
    "flat vector art on white",
)
GENERAL = tuple(f"{subject}, {style}" for subject in SUBJECTS for style in STYLES)
"""32 prompts: light and dark, plain and busy pictures."""
MOST = 256
"""Prompts that are used of a longer list."""


def load_calibration(source: str | Path | None) -> tuple[str, ...]:
    """At most 256 prompts of a source as for `load_split`, at random and always the same; GENERAL for None.

    Those of a source that has a part to test with are of another part. Raises PromptError.
    """
    return GENERAL if source is None else load_split(source, validation=0, test=0).train[:MOST]
