"""A row of the input: a prompt to draw, or the reason why there is none."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Row:
    """One row of the input."""

    id: str
    prompt: str
    """As it stands in the file; bytes that are not UTF-8 are surrogates."""
    seed: int | None = None
    """From the column of seeds; None if the seed comes from the id."""
    problem: str | None = None
    """Why the row cannot be drawn, as far as its file tells."""
    more: Mapping[str, Any] = field(default_factory=dict)
    """The additional columns."""


def digest(rows: Iterable[Row]) -> str:
    """sha256 over what decides the pictures of some rows, to notice an input that has changed."""
    total = hashlib.sha256()
    for row in rows:
        seed = "" if row.seed is None else row.seed
        for part in (row.id, row.prompt, f"{seed}", row.problem or ""):
            content = part.encode("utf-8", "surrogatepass")
            total.update(f"{len(content)}:".encode() + content)
    return total.hexdigest()
