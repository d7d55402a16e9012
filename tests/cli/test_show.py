from __future__ import annotations

import base64
import io
import re

import pytest
from PIL import Image

from pahi_rt.cli.show import encode_iterm, encode_kitty, encode_sixel, find_method, show_picture, write_blocks


@pytest.fixture
def picture() -> Image.Image:
    """A red and a blue half, 13 rows so that the last sixel band is not full, and noise to fill a second chunk."""
    image = Image.effect_noise((60, 80), 90).convert("RGB")
    image.paste("red", (0, 0, 30, 13))
    image.paste("blue", (30, 0, 60, 13))
    return image


@pytest.mark.parametrize(
    ("environment", "method"),
    [
        ({}, "blocks"),
        ({"TERM": "xterm-256color"}, "blocks"),
        ({"TERM": "xterm-kitty"}, "kitty"),
        ({"TERM": "xterm-256color", "KITTY_WINDOW_ID": "1"}, "kitty"),
        ({"TERM": "xterm-ghostty"}, "kitty"),
        ({"TERM": "xterm-256color", "TERM_PROGRAM": "iTerm.app"}, "iterm"),
        ({"TERM": "xterm-256color", "TERM_PROGRAM": "WezTerm"}, "iterm"),
        ({"TERM": "xterm-256color", "LC_TERMINAL": "iTerm2"}, "iterm"),
        ({"TERM": "foot"}, "sixel"),
        ({"TERM": "xterm-sixel"}, "sixel"),
        ({"TERM": "tmux-256color", "KITTY_WINDOW_ID": "1"}, "blocks"),
        ({"TERM": "xterm-kitty", "TMUX": "/tmp/tmux"}, "blocks"),
    ],
)
def test_find_method(environment: dict[str, str], method: str) -> None:
    assert find_method(environment) == method


def decode(payload: str) -> bytes:
    with Image.open(io.BytesIO(base64.b64decode(payload, validate=True))) as image:
        return image.tobytes()


def test_kitty(picture: Image.Image) -> None:
    commands = re.findall("\x1b_G(.*?);(.*?)\x1b\\\\", encode_kitty(picture))
    assert len(commands) > 1
    assert commands[0][0] == "a=T,f=100,q=2,m=1"
    assert [keys for keys, _ in commands[1:]] == ["m=1"] * (len(commands) - 2) + ["m=0"]
    assert all(len(payload) <= 4096 for _, payload in commands)
    assert decode("".join(payload for _, payload in commands)) == picture.tobytes()


def test_iterm(picture: Image.Image) -> None:
    match = re.fullmatch("\x1b]1337;File=inline=1;preserveAspectRatio=1:(.*)\a", encode_iterm(picture))
    assert match is not None
    assert decode(match[1]) == picture.tobytes()


def render_sixels(text: str) -> Image.Image:
    """A small terminal."""
    match = re.fullmatch('\x1bPq"1;1;(\\d+);(\\d+)((?:#\\d+;2;\\d+;\\d+;\\d+)+)(.*)\x1b\\\\', text, re.DOTALL)
    assert match is not None
    width, height = int(match[1]), int(match[2])
    palette = {int(i): (int(r), int(g), int(b)) for i, r, g, b in re.findall(r"#(\d+);2;(\d+);(\d+);(\d+)", match[3])}
    image = Image.new("RGB", (width, height))
    for top, band in enumerate(match[4].split("-")):
        for run in band.split("$"):
            number = re.match(r"#(\d+)", run)
            assert number is not None
            colour = palette[int(number[1])]
            x = 0
            for times, sixel in re.findall(r"(?:!(\d+))?([?-~])", run[1:].lstrip("0123456789")):
                for column in range(x, x + int(times or 1)):
                    for bit in range(6):
                        if (ord(sixel) - 63) >> bit & 1:
                            image.putpixel((column, top * 6 + bit), tuple(value * 255 // 100 for value in colour))
                x += int(times or 1)
            assert x == width
    return image


def test_sixel() -> None:
    image = Image.new("RGB", (20, 13), "red")
    image.paste("blue", (10, 0, 20, 13))
    image.paste("white", (3, 4, 9, 12))
    assert render_sixels(encode_sixel(image)).tobytes() == image.tobytes()


def test_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLORTERM", "truecolor")
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.delenv("NO_COLOR", raising=False)
    image = Image.new("RGB", (32, 32), "red")
    image.paste("blue", (0, 16, 32, 32))
    stream = io.StringIO()
    write_blocks(image, stream)
    rows = stream.getvalue().splitlines()
    assert len(rows) == 20
    assert all(row.count("▀") == 40 for row in rows)
    assert "38;2;255;0;0;48;2;255;0;0" in rows[0]
    assert "38;2;0;0;255;48;2;0;0;255" in rows[-1]


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(("term", "sign"), [("xterm-kitty", "\x1b_G"), ("foot", "\x1bPq"), ("xterm", "▀")])
def test_a_terminal_gets_what_it_can_show(term: str, sign: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("TMUX", "KITTY_WINDOW_ID", "TERM_PROGRAM", "LC_TERMINAL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TERM", term)
    terminal = Terminal()
    monkeypatch.setattr("sys.stderr", terminal)
    show_picture(Image.new("RGB", (8, 8)))
    assert sign in terminal.getvalue()


def test_anything_else_gets_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    show_picture(Image.new("RGB", (8, 8)))
    assert capsys.readouterr() == ("", "note: --show needs a terminal\n")
