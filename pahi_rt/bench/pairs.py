"""pahi-rt bench pairs [BUNDLE] -o PICTURE.png: the paper's Figure 1 for a bundle with a prior.

The sheet has a row for each of the first prompts of the recipe's test part, which no prior was trained on: the standard
Gaussian on the left, the bundle's default prior on the right, from the same noise. Prompts and seeds are not chosen:
they are the first ones.
"""

from __future__ import annotations

from collections.abc import Sequence
from io import BytesIO
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from pahi_rt import PahiError, Pipeline
from pahi_rt.manifest import GAUSSIAN
from pahi_rt.output import Destination
from pahi_rt.train.recipe import load_recipe

PROMPTS, SEEDS = 8, 4
GAP, LINE = 12, 22
"""Pixels between the two halves, and the height of a line of text."""


def write_sheet(bundle: str, recipe: str, output: Path) -> Path:
    """Draw the sheet into a .png or a folder; its path. Raises PahiError."""
    # First, so that a place that cannot be written is reported before anything is drawn.
    destination = Destination(output, force=True)
    sheet, content = draw(bundle, held_out_prompts(recipe)), BytesIO()
    sheet.save(content, "PNG")
    return destination.save(content.getvalue(), "pairs")


def held_out_prompts(recipe: str) -> tuple[str, ...]:
    """The first prompts of a recipe's test part. Raises PahiError for a recipe that cannot be read."""
    return load_recipe(recipe).prompts.load().test[:PROMPTS]


def draw(bundle: str, prompts: Sequence[str]) -> Image.Image:
    """The sheet. Raises PahiError for a bundle that has no prior, or cannot be loaded."""
    pipeline = Pipeline.load(bundle)
    if pipeline.prior == GAUSSIAN:
        fix = "export one with a prior: pahi-rt export MODEL --prior PRIOR_FILE -o BUNDLE"
        raise PahiError(f"the bundle {bundle!r} has no prior", fix=fix)
    rows = [[pipeline(prompt, count=SEEDS, prior_strength=strength) for strength in (0.0, 1.0)] for prompt in prompts]
    return lay_out(prompts, rows, ("standard Gaussian", pipeline.prior.upper()))


def lay_out(
    prompts: Sequence[str], rows: Sequence[Sequence[Sequence[Image.Image]]], heads: Sequence[str]
) -> Image.Image:
    """Lay out pictures of one size, `rows[prompt][half][seed]`, under the prompts and the two heads."""
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
