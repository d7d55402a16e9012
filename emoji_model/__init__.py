"""The program that makes the embedded model: a one-step generator of 128x128 emoji from text, trained from scratch.

Run it with `python -m emoji_model STAGE`. README.md in this folder describes stages, sources, times and quality.
"""

from pathlib import Path

RECIPE = Path(__file__).with_name("recipe.toml")
"""The training recipe of its priors: `pahi-rt train pahi --recipe emoji`."""
