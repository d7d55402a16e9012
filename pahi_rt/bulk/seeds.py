"""The seed of a row. It comes from the row's own id, so any number of machines draws the same pictures.

Seed rule `sha256-63`: SHA-256 of the run's seed in decimal digits, one line feed, and the row's id in UTF-8; the first
eight bytes, little endian, without the highest bit. So 0 <= seed < 2**63, and seed + 1, seed + 2, ... for the row's
further pictures never wrap around. docs/bulk.md has examples that other languages can check.
"""

from __future__ import annotations

import hashlib

SEED_RULE = "sha256-63"
"""The name of the rule, as the run's record has it."""


def row_seed(run_seed: int, row_id: str) -> int:
    """The seed of the row's first picture, 0 .. 2**63 - 1."""
    digest = hashlib.sha256(f"{run_seed}\n{row_id}".encode()).digest()
    return int.from_bytes(digest[:8], "little") & (2**63 - 1)
