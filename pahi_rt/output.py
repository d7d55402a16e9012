"""Where pictures go: PNG files named after their prompts, written whole or not at all, and sheets of pictures."""

from __future__ import annotations

import errno
import os
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

from PIL import Image

from pahi_rt.drawing import MOST_PICTURES, Drawing
from pahi_rt.errors import OutputError
from pahi_rt.files import explain
from pahi_rt.manifest import ImageSpec
from pahi_rt.scratch import scratch, sweep
from pahi_rt.terminal import command

_GAP = 4
"""Pixels between the pictures of a sheet."""
_USUAL_COLUMNS = 8
"""The most columns of a sheet of one prompt or of one seed."""
_ELSEWHERE = "or choose another place with -o FILE.png or -o FOLDER"


def check_amount(drawing: Drawing, in_one_sheet: ImageSpec | None) -> None:
    """Raises OutputError for more pictures than one command draws, or than fit in one sheet.

    `in_one_sheet` is the size of the pictures if they go into one sheet, else None.
    """
    if drawing.drawn > MOST_PICTURES:
        fix = f"draw {MOST_PICTURES} or fewer at once, each time with another --seed"
        raise OutputError(f"{drawing.drawn} pictures are too many for one command", fix=fix)
    if in_one_sheet is None:
        return
    size = (in_one_sheet.width + _GAP) * drawing.count * (in_one_sheet.height + _GAP) * len(drawing.prompts)
    most = 2 * (Image.MAX_IMAGE_PIXELS or 0)  # Pillow refuses to open larger pictures
    if size > most:
        what = f"a sheet of {len(drawing.prompts)} x {drawing.count} pictures has {size} pixels, more than {most}"
        raise OutputError(what, fix="draw fewer, or leave --grid out: each picture is a file then")


def columns_for(drawing: Drawing) -> int:
    """Columns of a drawing's sheet: one for each seed, or a few if one prompt or one seed would make a long strip."""
    if len(drawing.prompts) > 1 and drawing.count > 1:
        return drawing.count
    return min(len(drawing.prompts) * drawing.count, _USUAL_COLUMNS)


def contact_sheet(images: Sequence[Image.Image], columns: int) -> Image.Image:
    """One sheet of pictures of the same size on white, `columns` in a row."""
    width, height = images[0].width + _GAP, images[0].height + _GAP
    rows = -(-len(images) // columns)
    sheet = Image.new("RGB", (columns * width - _GAP, rows * height - _GAP), "white")
    for index, image in enumerate(images):
        row, column = divmod(index, columns)
        sheet.paste(image, (column * width, row * height))
    return sheet


class Destination:
    """Where pictures go: a file, a folder (made when the first picture is ready), or None for the current folder.

    A name that exists gets a number (cat.png, cat-2.png, cat-3.png), unless `force` overwrites the file. Within one run
    no picture overwrites another. Raises OutputError at once for a place that cannot be written.
    """

    def __init__(self, target: Path | None = None, *, force: bool = False) -> None:
        self._folder, self._file = _split(target)
        self._force = force
        self._numbers: dict[Path, int] = defaultdict(lambda: 1)
        _check_writable(self._folder, self._file or "")
        sweep(self._folder)

    def save(self, content: bytes, name: str) -> Path:
        """Write a PNG and return its path: `name`.png, unless the destination is a file. Raises OutputError."""
        wanted = self._folder / (self._file or f"{name}.png")
        try:
            _make(self._folder)
            with scratch(wanted, "write") as made:
                ready = made / "picture.png"
                ready.write_bytes(content)
                return self._publish(ready, wanted)
        except OSError as error:
            raise explain(error, wanted, _ELSEWHERE) from error

    def _publish(self, ready: Path, wanted: Path) -> Path:
        while True:
            number = self._numbers[wanted]
            path = wanted if number == 1 else wanted.with_stem(f"{wanted.stem}-{number}")
            self._numbers[wanted] += 1
            try:
                _move(ready, path, self._force)
            except FileExistsError:
                continue
            return path


def _split(target: Path | None) -> tuple[Path, str | None]:
    if target is None:
        return Path(), None
    if os.path.isdir(target) or not target.suffix:
        return target, None
    if target.suffix.lower() != ".png":
        fix = f"use {command('-o', target.with_suffix('.png'))}, or a folder (a name without a dot)"
        raise OutputError(f"{target} does not end in .png, and only PNG files are written", fix=fix)
    if not os.path.isdir(target.parent):
        raise OutputError(f"there is no folder {target.parent}", fix=command("mkdir", "-p", target.parent))
    return target.parent, target.name


def _make(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except FileExistsError as error:  # a file has taken its place
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR)) from error


def _check_writable(folder: Path, file: str) -> None:
    try:
        places = [folder.absolute(), *folder.absolute().parents]
    except FileNotFoundError as error:
        what = "the folder that this was started in is not there any more"
        raise OutputError(what, fix=f"cd to another one, {_ELSEWHERE}") from error
    try:
        nearest = next(place for place in places if _exists(place))
        for name in (folder / file).parts:  # those of folders that are still to be made, too
            _exists(nearest / name)
    except OSError as error:
        raise explain(error, folder / file, _ELSEWHERE) from error
    if not nearest.is_dir():
        raise OutputError(f"{nearest} is not a folder", fix=f"choose another place {_ELSEWHERE[3:]}")
    if not os.access(nearest, os.W_OK | os.X_OK):
        raise explain(PermissionError(errno.EACCES, os.strerror(errno.EACCES)), nearest / "x", _ELSEWHERE)


def _exists(place: Path) -> bool:
    """Whether a file or folder is there. Raises OSError if it never can be, such as a name of 300 characters."""
    try:
        place.stat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    return True


def _move(ready: Path, path: Path, overwrite: bool) -> None:
    """Move a finished file to `path` in one step. Raises FileExistsError if `path` exists, unless `overwrite`."""
    if overwrite:
        os.replace(ready, path)
        return
    try:
        os.link(ready, path)
    except FileExistsError:
        raise
    except OSError:
        # This file system has no hard links (exFAT, some network shares): claim the name, then move over it.
        path.open("xb").close()
        try:
            os.replace(ready, path)
        except OSError:
            path.unlink()
            raise
