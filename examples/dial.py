"""Dial the learned prior from 0 to 1: a row for each seed, a column for each strength.

python dial.py "a grinning cat" dial.png
"""

from __future__ import annotations

import sys

from PIL import Image

from pahi_rt import Pipeline

STRENGTHS = (0.0, 0.25, 0.5, 0.75, 1.0)
SEEDS = 4


def main(prompt: str, path: str) -> None:
    pipeline = Pipeline.load("emoji")  # or the folder of a bundle of your own
    columns = [pipeline([prompt], seed=0, count=SEEDS, prior_strength=strength) for strength in STRENGTHS]
    width, height = columns[0][0].size
    sheet = Image.new("RGB", (width * len(STRENGTHS), height * SEEDS))
    for column, images in enumerate(columns):
        for row, image in enumerate(images):
            sheet.paste(image, (column * width, row * height))
    sheet.save(path)
    print(f"{path}: {prompt}, seeds 0 to {SEEDS - 1} downwards, strengths {STRENGTHS} from left to right")


if __name__ == "__main__":
    main(*sys.argv[1:])
