"""Runs a peer in a process and an environment of its own, which waits while others draw."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import venv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pahi_rt.cache import cache_folder
from pahi_rt.errors import PahiError
from pahi_rt.terminal import command

HERE = Path(__file__).parent


@dataclass(frozen=True)
class Peer:
    name: str
    program: str
    """A file beside this one."""
    arguments: tuple[str, ...]
    pins: str | None = None
    """A file of requirements beside this one; None for the running environment."""


class Process:
    """A peer's program, started and ready. Raises PahiError with its last line if it ends before that."""

    def __init__(self, peer: Peer, log: Path) -> None:
        self._peer, self._log = peer, log
        words = [str(find_python(peer.pins)), str(HERE / peer.program), *peer.arguments]
        with log.open("wb") as errors:
            self._process = subprocess.Popen(
                words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, text=True
            )
        self.described: dict[str, Any] = self._answer()
        """Its version and decoder."""

    def draw(self, number: int) -> None:
        """Draw the n-th picture. Raises PahiError if the peer fails, or has ended."""
        assert self._process.stdin is not None
        # Writing to a process that has ended fails; reading its answer below then raises with its last line.
        with contextlib.suppress(OSError, ValueError):
            self._process.stdin.write(f"{number}\n")
            self._process.stdin.flush()
        self._answer()

    @property
    def has_ended(self) -> bool:
        return self._process.poll() is not None

    def end(self) -> None:
        """End it, with time to remove its files, and wait until its memory is free."""
        try:
            self._process.communicate(timeout=60)  # closes its standard input
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.communicate()

    def _answer(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        for line in () if self._process.stdout.closed else self._process.stdout:
            if line.startswith("{"):  # other lines come from libraries that print while they load
                answer: dict[str, Any] = json.loads(line)
                return answer
        self.end()
        last = self._log.read_text(errors="replace").strip().rpartition("\n")[2]
        raise PahiError(
            f"{self._peer.name} failed: {last[-600:]}", fix=f"run {command(HERE / self._peer.program)} by hand"
        )


def find_python(pins: str | None) -> Path:
    """The interpreter of an environment with these requirements, which is made if needed. Raises PahiError."""
    if pins is None:
        return Path(sys.executable)
    requirements = (HERE / pins).read_text()
    folder = cache_folder("peers", Path(pins).stem)
    made = folder / "made-from.txt"
    if not made.exists() or made.read_text() != requirements:
        venv.create(folder, clear=True, with_pip=True)
        install(folder, HERE / pins)
        made.write_text(requirements)
    return folder / "bin" / "python"


def install(folder: Path, requirements: Path) -> None:
    """Install the requirements into the environment in `folder`. Raises PahiError."""
    words: Sequence[str] = ["-m", "pip", "install", "--quiet", "--requirement", str(requirements)]
    done = subprocess.run([str(folder / "bin" / "python"), *words], capture_output=True, text=True)
    if done.returncode:
        reason = done.stderr.strip().rpartition("\n")[2]
        raise PahiError(f"{requirements.stem} cannot be installed here: {reason}", fix=f"see {requirements}")
