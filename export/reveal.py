"""A folder takes another one's place: the old one or the new one is there, whenever that is cut off."""

from __future__ import annotations

import shutil
from pathlib import Path

from pahi_rt.errors import OutputError


def check_output(output: Path, what: str, sign: str, *, overwrite: bool) -> None:
    """Whether `output` may be written: a new folder, or one that is `what`, for it holds the file `sign`.

    To be called when `finish_reveal` has settled what is there. Raises OutputError.
    """
    if not output.exists():
        return
    if not overwrite:
        raise OutputError(f"{output} exists already", fix=f"choose another output, or overwrite the {what} (--force)")
    if not output.is_dir() or (any(output.iterdir()) and not (output / sign).is_file()):
        raise OutputError(f"{output} is not a {what}, so it will not be overwritten", fix="choose another output")


def check_parent(output: Path) -> None:
    """Raises OutputError if there is no folder to write `output` into."""
    if not output.absolute().parent.is_dir():
        raise OutputError(f"{output.parent} does not exist", fix=f"mkdir -p {output.parent}")


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
    elif old.is_symlink():
        old.unlink()
    elif old.exists():
        shutil.rmtree(old)


def _old(output: Path) -> Path:
    return output.absolute().parent / f".{output.name}.old"
