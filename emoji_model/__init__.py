"""Recipe of the embedded default: a one-step text -> 128x128 emoji generator trained from scratch.

Run it with `python -m emoji_model STAGE`; README.md in this folder says what, from what, how long, how good.
"""

from pathlib import Path

RECIPE = Path(__file__).with_name("recipe.toml")
"""How its priors are trained: `pahi-rt train pahi --recipe emoji`."""
