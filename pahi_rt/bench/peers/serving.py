"""Serves pictures to the benchmark: every peer's program loads, says so, and draws a picture for each number it reads.

Peers run in environments of their own, where pahi_rt is not installed: this file imports the standard library alone.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path

PROMPTS = ("a grinning cat", "panda", "red heart", "hamburger", "rocket", "octopus", "guitar", "skull")


def picture_size(model: str) -> int:
    """Height and width in pixels of the pictures of a diffusers folder of Stable Diffusion."""
    config = json.loads((Path(model) / "unet" / "config.json").read_text())
    return 8 * int(config["sample_size"])


def serve(draw: Callable[[str, int], object], **described: str) -> None:
    """Draw one picture for each line of standard input, and answer each with an empty object."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # whatever libraries print goes to standard error
    print(json.dumps(described), file=answers, flush=True)
    for line in sys.stdin:
        number = int(line)
        draw(PROMPTS[number % len(PROMPTS)], abs(number))
        print("{}", file=answers, flush=True)
