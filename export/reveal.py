"""A folder takes another one's place: the old one or the new one is there, whenever that is cut off."""

from __future__ import annotations

import shutil
from pathlib import Path


def reveal(scratch: Path, output: Path) -> None:
    """Let `scratch` take the place of `output`."""
    if output.exists():
        output.rename(_old(output))
    scratch.rename(output)
    finish_reveal(output)


def finish_reveal(output: Path) -> None:
    """Remove the folder that was replaced; put it back if it was moved away, and nothing came into its place."""
    old = _old(output)
    if old.exists() and not output.exists():
        old.rename(output)
    elif old.exists():
        shutil.rmtree(old)


def _old(output: Path) -> Path:
    return output.absolute().parent / f".{output.name}.old"
