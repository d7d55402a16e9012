"""Measures composition: are thing, colour, background and number right, for captions that the generator never saw?

The judge says what is shown, how often, and what it wears. A colour is right if the picture is nearer to the drawings
in that colour than to those in any other one, or in their own; in the same way for the background. A judge that was
asked for colours as well found 41 % of those of the drawings themselves.
"""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from PIL import Image
from transformers import CLIPTokenizer

from emoji_model import coupling, evaluate
from emoji_model.autoencoder import reconstruct
from emoji_model.judge import Judge, places, whole
from emoji_model.painting import accessories, paint
from emoji_model.pictures import captioned
from emoji_model.scenes import COLOURS, WORN, Author, Scene, withheld
from emoji_model.sources import STYLES
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


def asked(author: Author) -> list[tuple[Scene, str]]:
    """The PROMPTS that are measured, with their scenes."""
    return scenes(author, PROMPTS, seed=1)


def kind_of(scene: Scene) -> str:
    """What a scene is an example of."""
    if scene.worn:
        return "worn"
    if len(scene.things) > 1:
        return "pair"
    if scene.number > 1:
        return "number"
    return "background" if scene.background else "colour"


def recoloured(scene: Scene) -> dict[str, list[Scene]]:
    """Idea -> the scene as it is, and then with every other colour there, or with none.

    The ideas are the background and each thing, where the scene names its colour.
    """
    found = {}
    if scene.background:
        found["background"] = [replace(scene, background=word) for word in _from(scene.background)]
    for place, thing in enumerate(scene.things):
        if thing.colour:
            changed = (replace(thing, colour=word) for word in _from(thing.colour))
            before, after = scene.things[:place], scene.things[place + 1 :]
            found[f"colour {place}"] = [replace(scene, things=(*before, other, *after)) for other in changed]
    return found


def _from(colour: str) -> list[str | None]:
    return [colour, *(word for word in (*COLOURS, None) if word != colour)]


Painter = Callable[[Scene, torch.Tensor], torch.Tensor]
"""A scene and a background [3] where it names none -> the scene in every style, [styles, 3, H, W]."""


def repaint(scene: Scene, painter: Painter, grounds: torch.Tensor) -> dict[str, torch.Tensor]:
    """Idea -> the scenes of `recoloured` on each of the `grounds` [B, 3]: [B, colours, styles, 3, H, W]."""
    return {
        idea: torch.stack([torch.stack([painter(one, ground) for one in scenes]) for ground in grounds])
        for idea, scenes in recoloured(scene).items()
    }


@torch.no_grad()
def judged(
    judge: Judge, scene: Scene, pictures: torch.Tensor, repainted: Mapping[str, torch.Tensor]
) -> dict[str, torch.Tensor]:
    """For pictures [B, 3, 128, 128] of a scene: is each idea of it right? Bool [B] each.

    `repainted` is what `repaint` makes of the scene, on the backgrounds of these pictures.
    """
    every, views = judge(whole(pictures)), places(pictures, len(scene.shown))
    seen = [judge(view) for view in views]
    right = {
        "thing": torch.stack([s.concept.argmax(1) == t.concept for s, t in zip(seen, scene.shown, strict=True)]).all(0),
        "number": every.number.argmax(1) == len(scene.shown) - 1,
    }
    if scene.worn:
        right["worn"] = every.worn.argmax(1) == list(WORN).index(scene.worn)
    for idea, painted in repainted.items():
        errors = (pictures[:, None, None] - painted).square().mean((3, 4, 5))
        name = idea.split()[0]
        right[name] = right.get(name, torch.tensor(True)) & (errors.amin(2).argmin(1) == 0)
    return right | {"all": torch.stack(list(right.values())).all(0)}


@torch.no_grad()
def drawn(model: Generator, tokenizer: CLIPTokenizer, text: str, steps: int) -> torch.Tensor:
    """SEEDS pictures [SEEDS, 3, 128, 128] of a caption, from held-out noises."""
    noise = evaluate.noises(SEEDS)
    return evaluate.decode(model, evaluate.draw_latents(model, tokenizer, [text] * SEEDS, noise, steps))


def measure(
    model: Generator, tokenizer: CLIPTokenizer, judge: Judge, author: Author, pictures: torch.Tensor
) -> dict[str, Any]:
    """Shares of right ideas over PROMPTS withheld captions: of the model's pictures, and of the drawings themselves
    through the autoencoder, the upper limit of any model."""
    prompts, worn = asked(author), accessories(author.concepts, pictures)
    grounds = coupling.background(coupling.read(evaluate.noises(SEEDS)))

    def painter(scene: Scene, ground: torch.Tensor) -> torch.Tensor:
        return paint(scene, pictures, worn, ground)

    rows: dict[str, list[tuple[str, dict[str, torch.Tensor]]]] = {"one_step": [], "two_steps": [], "drawings": []}
    for scene, text in prompts:
        # The styles take turns, for the same number of pictures.
        painted = torch.stack([painter(scene, ground)[seed % len(STYLES)] for seed, ground in enumerate(grounds)])
        made = {
            "one_step": drawn(model, tokenizer, text, 1),
            "two_steps": drawn(model, tokenizer, text, 2),
            "drawings": reconstruct(model.decoder, painted),
        }
        repainted = repaint(scene, painter, grounds)
        for name, shown in made.items():
            rows[name].append((kind_of(scene), judged(judge, scene, shown, repainted)))
    return {"prompts": len(prompts), "seeds": SEEDS} | {name: shares(results) for name, results in rows.items()}


def sheet(model: Generator, tokenizer: CLIPTokenizer, author: Author) -> Image.Image:
    """The first SHOWN / KINDS captions of each kind that `measure` asks for, each with its first two pictures."""
    each = PROMPTS // len(KINDS)
    captions = [text for number, (_, text) in enumerate(asked(author)) if number % each < SHOWN // len(KINDS)]
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
