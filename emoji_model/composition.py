"""Measures composition: are thing, colour, background and number right, for captions that no training saw?"""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import torch
from PIL import Image
from transformers import CLIPTokenizer

from emoji_model import coupling, evaluate
from emoji_model.judge import COLOUR_WORDS, Judge, places, whole
from emoji_model.painting import accessories, paint
from emoji_model.pictures import captioned
from emoji_model.scenes import WORN, Author, Scene, withheld
from pahi_rt.models.generators import Generator

PROMPTS, SHOWN = 200, 30
"""How many captions are measured, and how many a sheet shows."""
SEEDS = 4
KINDS = ("colour", "background", "number", "pair", "worn")


def scenes(author: Author, count: int, seed: int) -> list[tuple[Scene, str]]:
    """`count` scenes with at least one withheld combination, and a caption for each, evenly over the kinds."""
    rng, found = random.Random(seed), defaultdict[str, list[tuple[Scene, str]]](list)
    each = count // len(KINDS)
    while any(len(found[kind]) < each for kind in KINDS):
        scene = author.propose(rng)
        if withheld(scene) and scene.style is None and len(found[kind_of(scene)]) < each:
            found[kind_of(scene)].append((scene, author.caption(scene, rng)))
    return [row for kind in KINDS for row in found[kind]]


def kind_of(scene: Scene) -> str:
    """What a scene is an example of."""
    if scene.worn:
        return "worn"
    if len(scene.things) > 1:
        return "pair"
    if scene.number > 1:
        return "number"
    return "background" if scene.background else "colour"


@torch.no_grad()
def judged(judge: Judge, scene: Scene, pictures: torch.Tensor) -> dict[str, torch.Tensor]:
    """For pictures [B, 3, 128, 128] of a scene: is each idea of it right? Bool [B] each."""
    every, views = judge(whole(pictures)), places(pictures, len(scene.shown))
    seen = [judge(view) for view in views]
    right = {
        "thing": torch.stack([s.concept.argmax(1) == t.concept for s, t in zip(seen, scene.shown, strict=True)]).all(0),
        "number": every.number.argmax(1) == len(scene.shown) - 1,
    }
    coloured = [
        s.colour.argmax(1) == COLOUR_WORDS.index(t.colour) for s, t in zip(seen, scene.shown, strict=True) if t.colour
    ]
    if coloured:
        right["colour"] = torch.stack(coloured).all(0)
    if scene.background:
        right["background"] = every.ground.argmax(1) == COLOUR_WORDS.index(scene.background)
    if scene.worn:
        right["worn"] = every.worn.argmax(1) == list(WORN).index(scene.worn)
    return right | {"all": torch.stack(list(right.values())).all(0)}


@torch.no_grad()
def drawn(model: Generator, tokenizer: CLIPTokenizer, text: str, steps: int) -> torch.Tensor:
    """SEEDS pictures [SEEDS, 3, 128, 128] of a caption, from held-out noises."""
    noise = evaluate.noises(SEEDS)
    return evaluate.decode(model, evaluate.draw_latents(model, tokenizer, [text] * SEEDS, noise, steps))


def measure(
    model: Generator, tokenizer: CLIPTokenizer, judge: Judge, author: Author, pictures: torch.Tensor
) -> dict[str, Any]:
    """Shares of right ideas over PROMPTS withheld captions, of the model's pictures and of the drawings themselves."""
    asked = scenes(author, PROMPTS, seed=1)
    worn = accessories(author.concepts, pictures)
    grounds = coupling.background(coupling.read(evaluate.noises(SEEDS)))
    rows: dict[str, list[tuple[str, dict[str, torch.Tensor]]]] = {"one_step": [], "two_steps": [], "drawings": []}
    for scene, text in asked:
        for steps, name in ((1, "one_step"), (2, "two_steps")):
            rows[name].append((kind_of(scene), judged(judge, scene, drawn(model, tokenizer, text, steps))))
        painted = paint(scene, pictures, worn, grounds[0])
        rows["drawings"].append((kind_of(scene), judged(judge, scene, painted)))
    return {"prompts": len(asked), "seeds": SEEDS} | {name: shares(results) for name, results in rows.items()}


def sheet(model: Generator, tokenizer: CLIPTokenizer, author: Author) -> Image.Image:
    """The first SHOWN / KINDS captions of each kind that `measure` asks for, each with its first two pictures."""
    asked, each = scenes(author, PROMPTS, seed=1), PROMPTS // len(KINDS)
    captions = [text for number, (_, text) in enumerate(asked) if number % each < SHOWN // len(KINDS)]
    pictures = torch.stack([drawn(model, tokenizer, text, steps=1)[:2] for text in captions])
    return captioned(captions, pictures, columns=3)


def shares(rows: Sequence[tuple[str, dict[str, torch.Tensor]]]) -> dict[str, float]:
    """Share of right pictures: by idea, and `all KIND` for each kind of scene."""
    found = defaultdict[str, list[torch.Tensor]](list)
    for kind, right in rows:
        for idea, values in right.items():
            found[idea].append(values)
        found[f"all {kind}"].append(right["all"])
    return {name: round(float(torch.cat(parts).float().mean()), 4) for name, parts in sorted(found.items())}
