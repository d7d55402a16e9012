"""Show pictures in the terminal: Kitty's graphics, iTerm2's inline images, sixels, else coloured half blocks.

The method is chosen by the environment variables. To ask the terminal itself would block if it does not answer, and
would swallow what the user types meanwhile.
"""

from __future__ import annotations

import base64
import io
import os
import sys
from collections.abc import Iterator, Mapping
from itertools import groupby
from typing import TextIO

import numpy as np
from PIL import Image

from pahi_rt.cli import messages

_CHUNK = 4096
_SIXEL_TERMINALS = ("foot", "mlterm", "contour", "yaft")
_COLUMNS = 40


def show_picture(image: Image.Image) -> None:
    """Show a picture on standard error, if that is a terminal. Standard output is kept for results."""
    if not sys.stderr.isatty():
        messages.note("--show needs a terminal")
        return
    method = find_method(os.environ)
    if method == "blocks":
        write_blocks(image, sys.stderr)
        return
    encode = {"kitty": encode_kitty, "iterm": encode_iterm, "sixel": encode_sixel}[method]
    sys.stderr.write(encode(image.convert("RGB")) + "\n")
    sys.stderr.flush()


def find_method(environment: Mapping[str, str]) -> str:
    """The best method that the terminal supports: kitty, iterm, sixel or blocks."""
    term, program = environment.get("TERM", ""), environment.get("TERM_PROGRAM", "")
    if "TMUX" in environment or term.startswith(("screen", "tmux")):
        return "blocks"  # multiplexers swallow the escape codes of the others
    if "KITTY_WINDOW_ID" in environment or "kitty" in term or "ghostty" in term or program == "ghostty":
        return "kitty"
    if program in ("iTerm.app", "WezTerm", "mintty") or environment.get("LC_TERMINAL") == "iTerm2":
        return "iterm"
    if "sixel" in term or term.startswith(_SIXEL_TERMINALS):
        return "sixel"
    return "blocks"


def encode_kitty(image: Image.Image) -> str:
    """A PNG in chunks, as in https://sw.kovidgoyal.net/kitty/graphics-protocol."""
    payload = _png(image)
    chunks = [payload[start : start + _CHUNK] for start in range(0, len(payload), _CHUNK)]
    last = len(chunks) - 1
    parts = [f"\x1b_G{'a=T,f=100,q=2,' if i == 0 else ''}m={int(i < last)};{c}\x1b\\" for i, c in enumerate(chunks)]
    return "".join(parts)


def encode_iterm(image: Image.Image) -> str:
    """A PNG in one escape code, as in https://iterm2.com/documentation-images.html."""
    return f"\x1b]1337;File=inline=1;preserveAspectRatio=1:{_png(image)}\a"


def encode_sixel(image: Image.Image) -> str:
    """DEC sixels with up to 255 colours: bands of six rows, one pass over each band for each of its colours."""
    indexed = image.quantize(255)
    pixels = np.asarray(indexed)
    palette = np.asarray(indexed.getpalette("RGB"), np.int64).reshape(-1, 3) * 100 // 255
    colours = "".join(f"#{index};2;{r};{g};{b}" for index, (r, g, b) in enumerate(palette))
    bands = "-".join("$".join(_sixel_band(pixels[top : top + 6])) for top in range(0, len(pixels), 6))
    return f'\x1bPq"1;1;{image.width};{image.height}{colours}{bands}\x1b\\'


def write_blocks(image: Image.Image, stream: TextIO) -> None:
    """Write the picture with two pixels in each character cell. rich reduces the colours to the terminal's."""
    from rich.console import Console
    from rich.style import Style
    from rich.text import Text

    console = Console(file=stream)
    columns = min(console.width, max(_COLUMNS, image.width // 4))
    rows = max(2, 2 * round(image.height * columns / image.width / 2))
    pixels = np.asarray(image.convert("RGB").resize((columns, rows), Image.Resampling.BOX)).tolist()
    for upper, lower in zip(pixels[0::2], pixels[1::2], strict=True):
        line = Text()
        for (r, g, b), (lower_r, lower_g, lower_b) in zip(upper, lower, strict=True):
            line.append("▀", Style.parse(f"rgb({r},{g},{b}) on rgb({lower_r},{lower_g},{lower_b})"))
        console.print(line)


def _png(image: Image.Image) -> str:
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return base64.b64encode(buffer.getvalue()).decode()


def _sixel_band(band: np.ndarray) -> Iterator[str]:
    """A pass over a band of up to six rows for each of its colours."""
    weights = 1 << np.arange(len(band))[:, None]
    for colour in np.unique(band):
        sixels = ((band == colour) * weights).sum(axis=0)
        runs = ((chr(63 + bits), len(list(group))) for bits, group in groupby(sixels.tolist()))
        yield f"#{colour}" + "".join(f"!{n}{sixel}" if n > 3 else sixel * n for sixel, n in runs)
