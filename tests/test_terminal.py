from __future__ import annotations

import ast
import re
import shlex
import shutil
import subprocess
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest

import pahi_rt
from pahi_rt.terminal import command, printable


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a cat, ein Bär, 猫", "a cat, ein Bär, 猫"),
        ("\U0001f469\u200d\U0001f680 ❤️", "\U0001f469\u200d\U0001f680 ❤️"),  # joined by an invisible character
        ("\x1b[31mred\x1b[0m", r"\x1b[31mred\x1b[0m"),
        ("a\nb\r\n\tc", r"a\nb\r\n\tc"),
        ("\0\x07\x08\x7f", r"\x00\x07\x08\x7f"),
        ("\x9b2J\x85", r"\x9b2J\x85"),
        ("invoice\u202egnp.exe", r"invoice\u202egnp.exe"),
        ("\u2028\u2029\u2066\u2069\u200e\u200f\u061c", r"\u2028\u2029\u2066\u2069\u200e\u200f\u061c"),
        ("\ud83d alone", r"\ud83d alone"),
        ("c\udcfft", "c\udcfft"),  # a file's name that is not UTF-8
        ("\udcc2\udc9b2J", r"\x9b2J"),  # C1's CSI, spelled in such bytes
        ("\udce2\udc80\udcae", r"\u202e"),
        ("", ""),
    ],
)
def test_printable(text: str, shown: str) -> None:
    assert printable(text) == shown
    assert printable(shown) == shown


def test_a_command_is_quoted_where_the_shell_needs_it() -> None:
    assert command("mkdir", "-p", "out") == "mkdir -p out"
    assert command("rm", "a b", "$(reboot)", "it's", "") == """rm 'a b' '$(reboot)' 'it'"'"'s' ''"""
    assert command("echo", "ein Bär") == "echo 'ein Bär'"


@pytest.mark.skipif(shutil.which("bash") is None, reason="no bash")
@pytest.mark.parametrize(
    "word", ["\x1b[31m", "a\nb", "it's\x07", "back\\slash\x01", "\u202e", "c\udcfft", "\x1b41", "a b"]
)
def test_a_command_survives_the_shell(word: str) -> None:
    typed = command("printf", "%s", word)
    assert printable(typed) == typed
    done = subprocess.run(["bash", "-c", typed], capture_output=True, timeout=60)
    assert done.stdout == word.encode("utf-8", "surrogateescape")


def test_other_surrogates_are_no_argument() -> None:
    assert shlex.split(command("a", "\ud800"))[0] == "a"
    assert printable(command("a", "\ud800")) == "a $'?'"


COMMANDS = re.compile(r"(?:^|[ `])(?:mkdir|cp|rm|mv|iconv|cd|tar|ls|pip install) [^:;,`]*$|pahi-rt [a-z]+ [^:;,`]*$")


def unquoted(path: Path) -> Iterator[str]:
    """The f-strings of a module that put a value into a shell command as it is."""
    for string in ast.walk(ast.parse(path.read_text())):
        if not isinstance(string, ast.JoinedStr):
            continue
        for before, value in pairwise(string.values):
            text = before.value if isinstance(before, ast.Constant) else ""
            if COMMANDS.search(str(text)) and isinstance(value, ast.FormattedValue):
                yield f"{path}:{string.lineno}: {ast.unparse(value)}"


def test_no_command_is_put_together_by_hand() -> None:
    """Whoever adds a `fix=` with a path in a command uses `command`."""
    root = Path(pahi_rt.__file__).parent
    folders = [root, *(root / name for name in ("train", "export", "bench"))]
    found = [line for folder in folders for path in sorted(folder.rglob("*.py")) for line in unquoted(path)]
    allowed = ("flavour", "name", "part", "gpu", "kind", "extra", "parser", "__version__")
    assert [line for line in found if not any(f"{{{word}}}" in line for word in allowed)] == []
