"""python -m pahi_rt.bench.pairs [BUNDLE] -o PICTURE.png: the paper's Figure 1 for a bundle with a prior.

A row for each of the first prompts of the recipe's test part, which no prior was trained on: left the standard
Gaussian, right the bundle's default prior, from the same noise. Nothing is chosen: the first prompts, seeds 0 to 3.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from pahi_rt import PahiError, Pipeline
from pahi_rt.assets import DEFAULT
from pahi_rt.cli import messages
from pahi_rt.manifest import GAUSSIAN
from pahi_rt.output import Destination
from pahi_rt.train.prompts import load_split
from pahi_rt.train.recipe import load_recipe

PROMPTS, SEEDS = 8, 4
GAP, LINE = 12, 22
"""Pixels between the two halves, and of a line of text."""


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="pahi_rt.bench.pairs", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("bundle", nargs="?", default=DEFAULT)
    parser.add_argument("--recipe", help="the one that the prior was trained with (default: that of the bundle's name)")
    parser.add_argument("-o", "--output", type=Path, required=True, help="the picture: .png, or a folder")
    args = parser.parse_args()
    try:
        # First, so that a place that cannot be written is told of before anything is drawn.
        destination = Destination(args.output, force=True)
        sheet, content = draw(args.bundle, held_out_prompts(args.recipe or args.bundle)), BytesIO()
        sheet.save(content, "PNG")
        path = destination.save(content.getvalue(), "pairs")
    except PahiError as error:
        messages.problem(error)
        return 1
    print(path)
    return 0


def held_out_prompts(recipe: str) -> tuple[str, ...]:
    """The first prompts of a recipe's test part. PahiError for a recipe that cannot be read."""
    settings = load_recipe(recipe).prompts
    return load_split(settings.source, settings.validation, settings.test, settings.seed).test[:PROMPTS]


def draw(bundle: str, prompts: Sequence[str]) -> Image.Image:
    """The sheet. PahiError for a bundle that has no prior, or cannot be loaded."""
    pipeline = Pipeline.load(bundle)
    if pipeline.prior == GAUSSIAN:
        fix = "export one with a prior: pahi-rt export MODEL --prior PRIOR_FILE -o BUNDLE"
        raise PahiError(f"the bundle {bundle!r} has no prior", fix=fix)
    rows = [[pipeline(prompt, count=SEEDS, prior_strength=strength) for strength in (0.0, 1.0)] for prompt in prompts]
    return lay_out(prompts, rows, ("standard Gaussian", pipeline.prior.upper()))


def lay_out(
    prompts: Sequence[str], rows: Sequence[Sequence[Sequence[Image.Image]]], heads: Sequence[str]
) -> Image.Image:
    """Pictures of one size, `rows[prompt][half][seed]`, under the prompts and the two heads."""
    width, height = rows[0][0][0].size
    half, tall = len(rows[0][0]) * width, LINE + height
    sheet = Image.new("RGB", (len(heads) * half + (len(heads) - 1) * GAP, LINE + len(rows) * tall), "white")
    pen, font = ImageDraw.Draw(sheet), ImageFont.load_default(15)
    for column, head in enumerate(heads):
        left = column * (half + GAP)
        pen.text((left + half // 2, LINE // 2), head, "black", font, anchor="mm")
        for row, halves in enumerate(rows):
            top = LINE + row * tall
            pen.text((left + 2, top + LINE // 2), prompts[row], "dimgrey", font, anchor="lm")
            for seed, picture in enumerate(halves[column]):
                sheet.paste(picture, (left + seed * width, top + LINE))
    return sheet


if __name__ == "__main__":
    sys.exit(main())
