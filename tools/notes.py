"""python -m tools.notes VERSION: the CHANGELOG's section of a version, as the notes of its release.

Refuses a version that the package or the CHANGELOG does not have, so that a wrong tag publishes nothing.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]


def notes(version: str, changelog: str, package: str) -> str:
    """The section of `version`. Raises ValueError if there is none that is dated, or if the package is another."""
    found = re.search(r'__version__ = "(.+?)"', package)
    if not found or found[1] != version:
        raise ValueError(f"the package is not {version}")
    section = re.search(
        rf"^## \[{re.escape(version)}\] - \d{{4}}-\d\d-\d\d\n(.*?)(?=^## |\Z)", changelog, re.MULTILINE | re.DOTALL
    )
    if not section:
        raise ValueError(f"CHANGELOG.md has no dated section for {version}")
    return section[1].strip() + "\n"


if __name__ == "__main__":
    texts = ((ROOT / name).read_text(encoding="utf-8") for name in ("CHANGELOG.md", "pahi_rt/__init__.py"))
    try:
        print(notes(sys.argv[1], *texts), end="")
    except ValueError as error:
        raise SystemExit(f"error: {error}") from None
