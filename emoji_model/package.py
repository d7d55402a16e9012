"""Stage `package`: writes the trained parts as a diffusers folder, measures them, and describes the bundle."""

from __future__ import annotations

import json
import platform
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderTiny, StableDiffusionPipeline
from torch import nn
from transformers import CLIPTokenizer

from emoji_model import evaluate
from emoji_model.drawing import build_scheduler
from emoji_model.pictures import save_grid
from emoji_model.scenes import Author
from emoji_model.sources import LABELS, STYLES, Concept
from emoji_model.unet import LATENT_SHAPE
from pahi_rt.files import write_whole
from pahi_rt.machine import cpu_name
from pahi_rt.manifest import Card
from pahi_rt.models.gaussians import sample_noise
from pahi_rt.models.generators import Generator
from pahi_rt.models.priors import Prior
from pahi_rt.noise import draw_noise
from pahi_rt.scratch import scratch

LICENCE = (
    "weights: CC-BY-4.0, as derived from Twemoji (CC-BY-4.0), Noto Emoji (Apache-2.0), Fluent Emoji (MIT); see NOTICE"
)
MODEL_CARD = f"""---
license: cc-by-4.0
---
The emoji generator of pahi-rt, made by `python -m emoji_model`. {LICENCE}.
"""
PRIOR_CARD = f"""---
license: cc-by-4.0
---
A noise prior for the emoji generator of pahi-rt, made by `pahi-rt train`. {LICENCE}.
"""
LIMITS = (
    "draws the listed concepts and their everyday synonyms; other words give a blend at best",
    "composes what it was taught to: a colour, a background, two or three of a kind, two things, a hat or sunglasses",
    "knows no actions, sizes or places, and is not a general image model",
    "drawn at 128 x 128 pixels; fine detail is softer than in the original drawings, most of all in groups",
    "unknown words are named on stderr; English only",
)


def save_pipeline(vae: AutoencoderTiny, modules: nn.ModuleDict, tokenizer: CLIPTokenizer, folder: Path) -> Path:
    """Write a folder of diffusers' StableDiffusionPipeline with float16 weights, through a temporary folder."""
    pipeline = StableDiffusionPipeline(
        vae=vae,
        text_encoder=modules["text_encoder"],
        tokenizer=tokenizer,
        unet=modules["unet"],
        scheduler=build_scheduler(),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    with scratch(folder, "write") as made:
        new = made / "new"
        pipeline.to(dtype=torch.float16).save_pretrained(new)
        (new / "README.md").write_text(MODEL_CARD, encoding="utf-8")
        shutil.rmtree(folder, ignore_errors=True)
        return new.rename(folder)


def measure(
    model: Generator, tokenizer: CLIPTokenizer, concepts: Sequence[Concept], pictures: torch.Tensor, seeds: int
) -> dict[str, Any]:
    """All numbers of the emoji generator's card."""
    labels = [concept.label for concept in concepts]
    recognised = evaluate.recognition(model, tokenizer, labels, pictures, (1, 2), seeds)
    return {
        "command": "python -m emoji_model package",
        "hardware": f"{cpu_name() or platform.machine()}, {torch.get_num_threads()} threads",
        "torch": torch.__version__,
        "concepts": len(concepts),
        "styles": list(STYLES),
        "seeds_per_concept": seeds,
        "noises": evaluate.NOISES,
        "parameters": {name: sum(p.numel() for p in module.parameters()) for name, module in model.named_children()},
        "autoencoder_psnr_db": evaluate.autoencoder_psnr(model, pictures),
        "one_step": recognised[1],
        "two_steps": recognised[2],
        "explained_variance": evaluate.explained_variance(model, tokenizer, labels[::8], 1, 64),
    }


PREVIEW = (
    "a grinning cat", "a blue frog", "hamburger", "two cats", "octopus", "a rocket and a star", "guitar",
    "a panda on a green background",
)  # fmt: skip


@torch.no_grad()
def write_preview(model: Generator, prior: Prior | None, path: Path) -> Path:
    """Draw the first four seeds of eight prompts, not cherry-picked, from the runtime's noise, shaped by `prior`."""
    noise = torch.from_numpy(draw_noise(range(4), LATENT_SHAPE)).repeat(len(PREVIEW), 1, 1, 1)
    conditioning = model.encode_prompt(model.tokenize([prompt for prompt in PREVIEW for _ in range(4)]))
    if prior:
        noise = sample_noise(prior(conditioning.pooled), noise)
    save_grid(model.draw(conditioning, noise, steps=1), 8, path)
    return path


def card(report: dict[str, Any]) -> Card:
    """The bundle's card, from a report of `measure`."""
    one, two = report["one_step"], report["two_steps"]
    return Card(
        summary=f"One-step text to 128x128 emoji: {report['concepts']} concepts in {len(STYLES)} drawing styles.",
        trained_on=tuple(f"{p.name} {p.version} ({p.licence})" for p in (*STYLES.values(), LABELS)),
        licence=LICENCE,
        limits=LIMITS,
        measured={
            "right concept, nearest training picture by latents, one step": one["concept_latent"],
            "right concept, nearest training picture by pixels, one step": one["concept_pixel"],
            "right concept by latents, two steps": two["concept_latent"],
            "right concept by pixels, two steps": two["concept_pixel"],
            "style asked for by the noise, by latents": one["style_latent"],
            "sharpness relative to the drawings": one["sharpness"],
            "autoencoder PSNR (dB)": report["autoencoder_psnr_db"],
        },
    )


def vocabulary(author: Author, related: Mapping[str, list[str]]) -> dict[str, Any]:
    """Content of vocabulary.json: the words and concepts that the model knows, and the table of related words.
    prompts.py makes its prompts from it."""
    rows = [
        {"label": c.label, "emoji": c.emoji, "category": c.category, "synonyms": list(c.synonyms)}
        for c in author.concepts
    ]
    return {"words": author.words(), "concepts": rows, "styles": list(STYLES), "related": dict(related)}


def write_json(content: dict[str, Any], path: Path) -> Path:
    """Write `content` as JSON; return the path."""
    write_whole(path, json.dumps(content, indent=1, ensure_ascii=False) + "\n")
    return path
