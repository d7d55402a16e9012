"""How long a site takes to draw a picture, in Node.js, which runs its modules and its WebAssembly as a browser does.

Node.js has no WebGPU, and no isolated page in which several threads may draw: what is measured is WebAssembly on one.
"""

from __future__ import annotations

import json
import re
import shutil
import statistics
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

from pahi_rt.errors import RuntimeUnavailable
from pahi_rt.export.web.contents import Files

_SCRIPT = Path(__file__).with_name("draw.mjs")
_PATIENCE = 120
"""Seconds after which a picture of a large model is not waited for."""


@dataclass(frozen=True)
class Timing:
    """A few pictures, drawn one after the other."""

    load_ms: float
    """Until the graph was loaded, from files on the disk."""
    picture_ms: float
    """Median of the pictures after the first one."""
    pictures: int
    node: str
    """Its version."""


def time_picture(files: Files) -> Timing:
    """Draw pictures with a site's WebAssembly. Raises RuntimeUnavailable without Node.js, or if it cannot draw."""
    program = shutil.which("node")
    if program is None:
        raise RuntimeUnavailable("there is no Node.js to measure with", fix="install Node.js 20, and write it again")
    with tempfile.TemporaryDirectory() as folder:
        for name, content in {**files, "package.json": b'{"type": "module"}'}.items():
            path = Path(folder, name)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        return _read(_run([program, str(_SCRIPT), folder]))


def _run(words: list[str]) -> str:
    fix = "open the page, which tells its time for each picture"
    try:
        done = subprocess.run(words, capture_output=True, text=True, timeout=_PATIENCE, check=True)
    except subprocess.TimeoutExpired as error:
        raise RuntimeUnavailable(f"Node.js drew nothing within {_PATIENCE} s", fix=fix) from error
    except subprocess.CalledProcessError as error:
        raise RuntimeUnavailable(f"Node.js cannot draw: {_reason(error.stderr)[:200]}", fix=fix) from error
    return done.stdout


def _reason(told: str) -> str:
    """The line that names the error: a place in the code stands before it, and Node's version at the end."""
    lines = told.strip().splitlines() or ["it says nothing"]
    return next((line for line in lines if re.match(r"(Uncaught )?\w*Error\b", line)), lines[0])


def _read(answer: str) -> Timing:
    told = json.loads(answer)
    later = told["run_ms"][1:]
    return Timing(told["load_ms"], statistics.median(later), len(later), told["node"])
