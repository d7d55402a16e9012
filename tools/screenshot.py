"""python -m tools.screenshot: draws docs/playground.png, the page of `pahi-rt serve` in Chromium."""

from __future__ import annotations

import subprocess
from pathlib import Path
from tempfile import TemporaryDirectory

from pahi_rt.bench.playground import find_tools
from pahi_rt.bench.serve import serving

ROOT = Path(__file__).parents[1]
PICTURE = ROOT / "docs" / "playground.png"
PACKAGES = ROOT / ".venv" / "npm"
"""Where `make .venv/.npm` puts playwright-core."""
CHOICES = "prompt=a+blue+frog&seed=7&count=4&compare=1"
"""What the page's address asks for."""


def shoot() -> Path:
    """Write the picture. Raises PahiError without Node.js or Chromium."""
    tools, script = find_tools(), Path(__file__).with_suffix(".mjs")
    with TemporaryDirectory() as folder, serving("emoji", 1, Path(folder) / "log") as service:
        words: list[str | Path] = [tools.node, script, PACKAGES, tools.chromium, f"{service.url}/#{CHOICES}", PICTURE]
        subprocess.run(words, check=True)
    return PICTURE


if __name__ == "__main__":
    print(shoot())
