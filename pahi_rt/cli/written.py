"""The files that `generate` writes, each as soon as its pictures are drawn."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from pahi_rt.cli import messages
from pahi_rt.errors import OutputError

if TYPE_CHECKING:
    from PIL import Image

    from pahi_rt.drawing import Drawing
    from pahi_rt.pipeline import Result

STANDARD_OUTPUT = "-"


class Place(Protocol):
    """Where PNG files go: a Destination, or standard output."""

    def save(self, content: bytes, name: str) -> Path:
        """Write a file, and return its path. Raises OutputError."""
        ...


class StandardOutput:
    """Standard output as a place for one PNG file. Raises OutputError for several files, and for a terminal."""

    def __init__(self, files: int) -> None:
        if files != 1:
            fix = "use --grid, which makes one file of them, or -o FOLDER"
            raise OutputError(f"{files} files cannot go to standard output", fix=fix)
        if not messages.is_closed() and sys.stdout.isatty():
            fix = "send it on, as in `-o - > FILE.png`; --show shows a picture"
            raise OutputError("a PNG file is not for a terminal", fix=fix)

    def save(self, content: bytes, name: str) -> Path:
        """Write the file; its `name` is not used. Raises OutputError."""
        messages.binary(content)
        return Path(STANDARD_OUTPUT)


@dataclass(frozen=True)
class Written:
    """A file that was written, and the pictures in it."""

    path: Path
    image: Image.Image
    results: Sequence[Result]
    size: int
    """Bytes."""
    encode_ms: float
    """Milliseconds that encoding it as PNG took."""

    @property
    def line(self) -> str:
        """The line of text that is shown for the file."""
        total_ms = self.encode_ms + sum(result.tokenize_ms + result.run_ms for result in self.results)
        seeds = sorted({result.seed for result in self.results})
        listed = f"seed {seeds[0]}" if len(seeds) == 1 else f"seeds {seeds[0]} to {seeds[-1]}"
        size = f"{self.image.width}x{self.image.height}, {messages.megabytes(self.size)}"
        scores = [f"{result.score:.3g}" for result in self.results if result.score is not None]
        scored = f", score {' '.join(scores)}" if scores else ""
        return f"{self.path}  {size}, {total_ms:.0f} ms, {listed}{scored}"

    def describe(self) -> list[dict[str, Any]]:
        """The pictures of the file, for JSON. Each has its share of the file's encode_ms."""
        return [
            {
                "path": str(self.path),
                "bytes": self.size,
                "prompt": result.prompt,
                "seed": result.seed,
                **({} if result.score is None else {"score": result.score}),
                "width": result.image.width,
                "height": result.image.height,
                "truncated": result.truncated,
                "tokenize_ms": result.tokenize_ms,
                "run_ms": result.run_ms,
                "encode_ms": self.encode_ms / len(self.results),
            }
            for result in self.results
        ]


def write_each(results: Iterable[Result], drawing: Drawing, place: Place) -> Iterator[Written]:
    """Write a file for each picture. Raises OutputError."""
    from pahi_rt.files import slug

    for result in results:
        alone = replace(drawing, prompts=(result.prompt,), seed=result.seed, count=1)
        alone = _with_choice(alone, [result])
        yield _write(result.image, [result], alone, place, slug(result.prompt))


def write_grid(results: Iterable[Result], drawing: Drawing, place: Place) -> Iterator[Written]:
    """Write one file of all pictures, with a row for each prompt if there is more than one seed. Raises OutputError."""
    from pahi_rt.files import slug
    from pahi_rt.output import columns_for, contact_sheet

    drawn = list(results)
    sheet = contact_sheet([result.image for result in drawn], columns_for(drawing))
    yield _write(sheet, drawn, _with_choice(drawing, drawn), place, slug(drawing.prompts[0]) + "-grid")


def _with_choice(drawing: Drawing, results: Sequence[Result]) -> Drawing:
    """The drawing with the seeds and scores of its pictures, if they were chosen."""
    if drawing.choice is None:
        return drawing
    seeds = tuple(result.seed for result in results)
    scores = tuple(result.score or 0.0 for result in results)
    return replace(drawing, seed=seeds[0], choice=replace(drawing.choice, seeds=seeds, scores=scores))


def _write(image: Image.Image, results: Sequence[Result], drawing: Drawing, place: Place, name: str) -> Written:
    from pahi_rt.drawing import encode_png

    started = time.perf_counter()
    content = encode_png(image, drawing)
    encode_ms = 1000.0 * (time.perf_counter() - started)
    return Written(place.save(content, name), image, results, len(content), encode_ms)
