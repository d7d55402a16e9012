"""A folder takes another one's place: the old one or the new one is there, whenever that is cut off."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pahi_rt.errors import OutputError
from pahi_rt.export.lock import lock_output


@contextmanager
def claim_output(output: Path, what: str, sign: str, *, overwrite: bool) -> Iterator[None]:
    """`output` may be written and nobody else does: a new folder, or one that is `what`, for it holds the file `sign`.

    Raises OutputError, for whatever cannot be written meanwhile too.
    """
    if not output.absolute().parent.is_dir():
        raise OutputError(f"{output.parent} does not exist", fix=f"mkdir -p {output.parent}")
    with lock_output(output):
        try:
            _finish_reveal(output)
            _check_output(output, what, sign, overwrite)
            yield
        except OSError as error:
            text = f"cannot write {output}: {error.strerror or error}"
            raise OutputError(text, fix="free some space, or choose another output") from error


def reveal(scratch: Path, output: Path) -> None:
    """Let `scratch` take the place of `output`."""
    if output.exists():
        output.rename(_old(output))
    scratch.rename(output)
    _finish_reveal(output)


def _check_output(output: Path, what: str, sign: str, overwrite: bool) -> None:
    if not output.exists():
        return
    if not overwrite:
        raise OutputError(f"{output} exists already", fix=f"choose another output, or overwrite the {what} (--force)")
    if not output.is_dir() or (any(output.iterdir()) and not (output / sign).is_file()):
        raise OutputError(f"{output} is not a {what}, so it will not be overwritten", fix="choose another output")


def _finish_reveal(output: Path) -> None:
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
