"""Prompts for the calibration of int8: they show which values a graph computes with, before it is quantised.

A user's own prompts are better; these are the default.
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
"""How many prompts of a longer list are used."""
FIRST_SEED = 1000
"""Seed of the first prompt's noise. The gate's noises are others."""


def load_calibration(source: str | Path | None) -> tuple[str, ...]:
    """At most 256 prompts of `source` (as for `load_split`), a random choice that is always the same; None: GENERAL.

    If the source has a part for tests, none of it is used. Raises PromptError.
    """
    return GENERAL if source is None else load_split(source, validation=0, test=0).train[:MOST]
