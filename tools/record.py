"""python -m tools.record [NAME ...]: run commands in a terminal and write what it showed as docs/NAME.svg.

The pictures show times, so record them on a machine that does nothing else.
"""

from __future__ import annotations

import io
import os
import pty
import re
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import pyte
from rich._export_format import CONSOLE_SVG_FORMAT
from rich.console import Console
from rich.style import Style
from rich.text import Text

DOCS = Path(__file__).parents[1] / "docs"
WIDTH, HEIGHT = 92, 200
"""The terminal's columns and lines; lines that stay empty are cut off."""
QUICK = ("optimisation.max_steps=20", "optimisation.evaluate_every=10", "prompts.validation=32", "prompts.test=8")
"""Settings of the training that is recorded, so that it ends within minutes."""
SHORTENED = [word for setting in QUICK for word in ("--set", setting)]
SCREENS = {
    "generate": ('pahi-rt generate "a blue frog" "two cats" -n 4 --seed 7 --grid', []),
    "train": ("pahi-rt train pahi --recipe emoji -o runs/pahi", SHORTENED),
    "bench": ("pahi-rt bench latency", []),
}
"""NAME -> what is typed, and words that are added to it."""
COLOURS = {"brown": "yellow", "default": None}
"""pyte's names of colours that rich calls otherwise."""


def record(name: str) -> Path:
    """Run the command of a screen and write its picture."""
    console = Console(record=True, width=WIDTH, file=io.StringIO(), force_terminal=True)
    typed, added = SCREENS[name]
    console.print(Text.assemble(("$ ", "bold green"), (typed, "bold")))
    with TemporaryDirectory() as folder:
        words = [*shlex.split(typed)[1:], *added]
        for line in _run([sys.executable, "-c", "from pahi_rt.cli import main; main()", *words], Path(folder)):
            console.print(line, soft_wrap=True)
    path = DOCS / f"{name}.svg"
    # rich's own template fetches a font from another host.
    local = re.sub(r"@font-face \{\{.*?\}\}\s*", "", CONSOLE_SVG_FORMAT, flags=re.DOTALL)
    path.write_text(console.export_svg(title="", code_format=local, unique_id=name), encoding="utf-8")
    return path


def _run(command: Sequence[str], folder: Path) -> list[Text]:
    """What the terminal shows when the command has ended."""
    screen = pyte.Screen(WIDTH, HEIGHT)
    stream = pyte.ByteStream(screen)
    process, terminal = pty.fork()
    if process == 0:
        os.chdir(folder)
        size = {"COLUMNS": str(WIDTH), "LINES": str(HEIGHT), "TERM": "xterm-256color", "COLORTERM": "truecolor"}
        os.execvpe(command[0], list(command), os.environ | size)
    while chunk := _read(terminal):
        stream.feed(chunk)
    os.close(terminal)
    if os.waitpid(process, 0)[1] != 0:
        raise SystemExit("\n".join(screen.display).rstrip())
    lines = [_line(screen.buffer[row]) for row in range(HEIGHT)]
    while lines and not lines[-1].plain:
        lines.pop()
    return lines


def _read(terminal: int) -> bytes:
    try:
        return os.read(terminal, 65536)
    except OSError:  # Linux says so when the other side has closed
        return b""


def _line(cells: dict[int, pyte.screens.Char]) -> Text:
    line = Text()
    for column in range(WIDTH):
        cell = cells[column]
        line.append(cell.data, Style(color=_colour(cell.fg), bgcolor=_colour(cell.bg), bold=cell.bold))
    line.rstrip()
    return line


def _colour(name: str) -> str | None:
    return COLOURS.get(name, f"#{name}" if re.fullmatch(r"[0-9a-f]{6}", name) else name.replace("bright", "bright_"))


if __name__ == "__main__":
    for name in sys.argv[1:] or SCREENS:
        print(record(name))
