"""Pictures on disk: PNG files that say how they were made, named after their prompts, whole or not at all."""

from __future__ import annotations

import io
import json
import os
import re
import secrets
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from PIL import Image
from PIL.PngImagePlugin import PngInfo

from pahi_rt.errors import OutputError, PahiError
from pahi_rt.manifest import GAUSSIAN, PRIORS

_LONGEST_NAME = 48
_GAP = 4


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
        _check_writable(self._folder)

    def save(self, content: bytes, name: str) -> Path:
        """Write a PNG, as `name`.png unless the destination is a file, and return its path. Raises OutputError."""
        wanted = self._folder / (self._file or f"{name}.png")
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            with _scratch(self._folder, content) as scratch:
                return self._publish(scratch, wanted)
        except OSError as error:
            fix = "choose another place with -o FILE.png or -o FOLDER"
            raise OutputError(f"{wanted} cannot be written: {error.strerror or error}", fix=fix) from error

    def _publish(self, scratch: Path, wanted: Path) -> Path:
        while True:
            number = self._numbers[wanted]
            path = wanted if number == 1 else wanted.with_stem(f"{wanted.stem}-{number}")
            self._numbers[wanted] += 1
            try:
                _move(scratch, path, self._force)
            except FileExistsError:
                continue
            return path


def _split(target: Path | None) -> tuple[Path, str | None]:
    if target is None:
        return Path(), None
    if target.is_dir() or not target.suffix:
        return target, None
    if target.suffix.lower() != ".png":
        fix = f"use -o {target.with_suffix('.png')}, or a folder (a name without a dot)"
        raise OutputError(f"{target} would be no PNG, which is all that is written", fix=fix)
    if not target.parent.is_dir():
        raise OutputError(f"there is no folder {target.parent}", fix=f"mkdir -p {target.parent}")
    return target.parent, target.name


def _check_writable(folder: Path) -> None:
    nearest = next(path for path in (folder.absolute(), *folder.absolute().parents) if path.exists())
    if not nearest.is_dir():
        raise OutputError(f"{nearest} is not a folder", fix="choose another place with -o FILE.png or -o FOLDER")
    if not os.access(nearest, os.W_OK | os.X_OK):
        raise OutputError(
            f"{nearest} cannot be written by you", fix="choose another place with -o FILE.png or -o FOLDER"
        )


@contextmanager
def _scratch(folder: Path, content: bytes) -> Iterator[Path]:
    path = folder / f".pahi-rt-{secrets.token_hex(8)}.tmp"
    try:
        with path.open("xb") as file:
            file.write(content)
        yield path
    finally:
        path.unlink(missing_ok=True)


def _move(scratch: Path, path: Path, overwrite: bool) -> None:
    """Raises FileExistsError unless `overwrite`; never shows a part of the file under `path`."""
    if overwrite:
        os.replace(scratch, path)
        return
    try:
        os.link(scratch, path)
    except FileExistsError:
        raise
    except OSError:
        # No hard links on this file system (exFAT, some network shares): claim the name, then move over it.
        path.open("xb").close()
        try:
            os.replace(scratch, path)
        except OSError:
            path.unlink()
            raise
