"""What every peer's program does: load, say so, and draw a picture for each number that comes in.

Peers run in environments of their own, where pahi_rt is not installed: this file imports nothing but Python.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path

PROMPTS = ("a grinning cat", "panda", "red heart", "hamburger", "rocket", "octopus", "guitar", "skull")


def picture_size(model: str) -> int:
    """Pixels of an edge of what a diffusers folder of Stable Diffusion draws."""
    config = json.loads((Path(model) / "unet" / "config.json").read_text())
    return 8 * int(config["sample_size"])


def serve(draw: Callable[[str, int], object], **described: str) -> None:
    """Draw with a prompt and a seed for each line of standard input, and answer with an empty object."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # libraries print what they like
    print(json.dumps(described), file=answers, flush=True)
    for line in sys.stdin:
        number = int(line)
        draw(PROMPTS[number % len(PROMPTS)], abs(number))
        print("{}", file=answers, flush=True)
