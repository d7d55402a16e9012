"""Pictures on disk: PNG files that say how they were made, named after their prompts, whole or not at all."""

from __future__ import annotations

import errno
import io
import json
import os
import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image
from PIL.PngImagePlugin import PngInfo

from pahi_rt.errors import OutputError, PahiError
from pahi_rt.files import explain
from pahi_rt.manifest import GAUSSIAN, PRIORS, ImageSpec
from pahi_rt.scratch import scratch, sweep
from pahi_rt.terminal import command

MOST_PICTURES = 1_000_000
"""That one command draws, and that one file may ask for."""
_LONGEST_NAME = 48
_GAP = 4
_ELSEWHERE = "or choose another place with -o FILE.png or -o FOLDER"


@dataclass(frozen=True)
class Recipe:
    """What it takes to draw a file's pictures again; each PNG carries it in its text chunks."""

    prompts: tuple[str, ...]
    seed: int
    """Of the first picture of every prompt."""
    count: int
    """Pictures of each prompt, from the seeds seed, seed + 1, ..."""
    steps: int
    bundle: str
    """The bundle's name, which is not where it lies."""
    bundle_sha256: str
    """Of its pahi.json, which in turn holds the hash of every other file."""
    version: str
    """Of pahi-rt."""
    prior: str = GAUSSIAN
    """What the noise was drawn from: "hi", "pahi" or "gaussian"."""
    prior_strength: float = 0.0
    """0..1; 0 for "gaussian"."""
    precision: str | None = None
    """One of the bundle's; None is its default, as in files from before there were several."""

    @property
    def pictures(self) -> int:
        """How many it draws."""
        return len(self.prompts) * self.count

    def to_text(self) -> dict[str, str]:
        """Keyword -> content of the PNG's text chunks."""
        several = {} if len(self.prompts) == 1 else {"prompts": json.dumps(self.prompts, ensure_ascii=False)}
        return {
            "prompt": self.prompts[0],
            **several,
            "seed": str(self.seed),
            "count": str(self.count),
            "steps": str(self.steps),
            "bundle": self.bundle,
            "bundle-sha256": self.bundle_sha256,
            "pahi-rt": self.version,
            **self._prior_to_text(),
            **({} if self.precision is None else {"precision": self.precision}),
        }

    @classmethod
    def from_text(cls, text: Mapping[str, str]) -> Recipe:
        """Raises KeyError or ValueError for chunks that `to_text` has not made."""
        prompts = json.loads(text["prompts"]) if "prompts" in text else [text["prompt"]]
        if not isinstance(prompts, list) or not all(isinstance(prompt, str) for prompt in prompts):
            raise ValueError("prompts is no list of strings")
        seed, count, steps = (int(text[key]) for key in ("seed", "count", "steps"))
        if not (prompts and 0 < count * len(prompts) <= MOST_PICTURES):
            raise ValueError("no number of pictures that is ever drawn")
        made_by = text["bundle"], text["bundle-sha256"], text["pahi-rt"]
        return cls(tuple(prompts), seed, count, steps, *made_by, *_read_prior(text), text.get("precision"))

    def _prior_to_text(self) -> dict[str, str]:
        # Nothing for standard Gaussian noise, as in files from before there were priors.
        return {} if self.prior == GAUSSIAN else {"prior": self.prior, "prior-strength": str(self.prior_strength)}


def _read_prior(text: Mapping[str, str]) -> tuple[str, float]:
    if "prior" not in text:
        return GAUSSIAN, 0.0
    prior, strength = text["prior"], float(text["prior-strength"])
    if prior not in PRIORS or not 0 <= strength <= 1:
        raise ValueError("no prior and strength")
    return prior, strength


def read_recipe(path: Path) -> Recipe:
    """How a PNG was made. Raises PahiError for a file that does not say it."""
    try:
        with Image.open(path, formats=["PNG"]) as image:
            return Recipe.from_text({str(key): text for key, text in image.info.items() if isinstance(text, str)})
    except (KeyError, OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        if isinstance(error, OSError) and error.strerror:  # from the system rather than Pillow
            raise PahiError(f"{path} cannot be read: {error.strerror}", fix="check the path") from error
        fix = "name a PNG that `pahi-rt generate` wrote, unchanged: other programs drop its text chunks"
        raise PahiError(f"{path} does not say how it was made", fix=fix) from error


def check_amount(recipe: Recipe, in_one_sheet: ImageSpec | None) -> None:
    """Raises OutputError for more pictures than one command draws, or than fit in a sheet of pictures of that size."""
    if recipe.pictures > MOST_PICTURES:
        fix = f"draw {MOST_PICTURES} or fewer at once, each time with another --seed"
        raise OutputError(f"{recipe.pictures} pictures are too many for one command", fix=fix)
    if in_one_sheet is None:
        return
    size = (in_one_sheet.width + _GAP) * recipe.count * (in_one_sheet.height + _GAP) * len(recipe.prompts)
    most = 2 * (Image.MAX_IMAGE_PIXELS or 0)  # more than that, Pillow opens no more
    if size > most:
        what = f"a sheet of {len(recipe.prompts)} x {recipe.count} pictures has {size} pixels, more than {most}"
        raise OutputError(what, fix="draw fewer, or leave --grid out: each picture is a file then")


def encode_png(image: Image.Image, recipe: Recipe) -> bytes:
    """The PNG file of a picture, with its recipe."""
    info = PngInfo()
    for key, value in recipe.to_text().items():
        info.add_text(key, value)
    buffer = io.BytesIO()
    image.save(buffer, "PNG", pnginfo=info)
    return buffer.getvalue()


def contact_sheet(images: Sequence[Image.Image], columns: int) -> Image.Image:
    """Pictures of one size side by side on white, `columns` in a row."""
    width, height = images[0].width + _GAP, images[0].height + _GAP
    rows = -(-len(images) // columns)
    sheet = Image.new("RGB", (columns * width - _GAP, rows * height - _GAP), "white")
    for index, image in enumerate(images):
        row, column = divmod(index, columns)
        sheet.paste(image, (column * width, row * height))
    return sheet


def slug(prompt: str) -> str:
    """A file name for a prompt: its words with dashes between, or "picture" where it has none."""
    words = "-".join(re.findall(r"[^\W_]+", prompt.lower()))
    return words[:_LONGEST_NAME].strip("-") or "picture"


class Destination:
    """Where pictures go: a file, a folder (made when the first picture is ready), or None for here.

    A name that exists gets a number, cat.png, cat-2.png, cat-3.png, unless `force` overwrites it; within one
    run no picture overwrites another. Raises OutputError at once for a place that cannot be written.
    """

    def __init__(self, target: Path | None = None, *, force: bool = False) -> None:
        self._folder, self._file = _split(target)
        self._force = force
        self._numbers: dict[Path, int] = defaultdict(lambda: 1)
        _check_writable(self._folder, self._file or "")
        sweep(self._folder)

    def save(self, content: bytes, name: str) -> Path:
        """Write a PNG, as `name`.png unless the destination is a file, and return its path. Raises OutputError."""
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
        raise OutputError(f"{target} would be no PNG, which is all that is written", fix=fix)
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
        for name in (folder / file).parts:  # of those that are still to be made, too
            _exists(nearest / name)
    except OSError as error:
        raise explain(error, folder / file, _ELSEWHERE) from error
    if not nearest.is_dir():
        raise OutputError(f"{nearest} is not a folder", fix=f"choose another place {_ELSEWHERE[3:]}")
    if not os.access(nearest, os.W_OK | os.X_OK):
        raise explain(PermissionError(errno.EACCES, os.strerror(errno.EACCES)), nearest / "x", _ELSEWHERE)


def _exists(place: Path) -> bool:
    """Raises OSError for what can never be there, such as a name of 300 characters."""
    try:
        place.stat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    return True


def _move(ready: Path, path: Path, overwrite: bool) -> None:
    """Raises FileExistsError unless `overwrite`; never shows a part of the file under `path`."""
    if overwrite:
        os.replace(ready, path)
        return
    try:
        os.link(ready, path)
    except FileExistsError:
        raise
    except OSError:
        # No hard links on this file system (exFAT, some network shares): claim the name, then move over it.
        path.open("xb").close()
        try:
            os.replace(ready, path)
        except OSError:
            path.unlink()
            raise
