"""A small emoji world: real classes, made-up concepts."""

import random
from pathlib import Path

import pytest
import torch
from transformers import CLIPTokenizer

from emoji_model import coupling, tokenizer
from emoji_model.captions import Captions
from emoji_model.codes import code
from emoji_model.encoded import OPEN, EncodedScenes
from emoji_model.pools import Pool
from emoji_model.sampler import Sampler
from emoji_model.scenes import Author, Scene, Thing
from emoji_model.sources import STYLES, Concept
from emoji_model.subjects import Subjects
from emoji_model.targets import Targets
from emoji_model.text import tokens
from emoji_model.unet import LATENT_SHAPE


def square(colour: str) -> str:
    return (
        '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 10 10">'
        f'<rect width="5" height="10" fill="{colour}"/></svg>'
    )


@pytest.fixture
def concepts() -> list[Concept]:
    svg = {style: square(colour) for style, colour in zip(STYLES, ("#f00", "#0f0", "#00f"), strict=True)}
    return [
        Concept("🐱", "cat face", ("cat",), ("animal", "pet", "face"), "animals", svg),
        Concept("🐶", "dog face", ("dog",), ("animal", "pet", "face"), "animals", svg),
        Concept("🔥", "fire", ("flame",), ("hot",), "nature", svg),
        Concept("🥵", "hot face", (), ("hot", "fire", "face"), "faces", svg),
    ]


@pytest.fixture
def captions(concepts: list[Concept]) -> Captions:
    return Captions(concepts)


@pytest.fixture
def words(captions: Captions, tmp_path: Path) -> CLIPTokenizer:
    return tokenizer.train(captions.words() * 5, tmp_path / "tokenizer")


@pytest.fixture
def pool(concepts: list[Concept]) -> Pool:
    """Each concept is a grey of its own; generated pictures are off by as much as their error says; two styles."""
    greys = torch.linspace(40, 200, len(concepts)).view(-1, 1, 1, 1, 1)
    errors = torch.rand(len(concepts), 4, generator=torch.Generator().manual_seed(0))
    samples = (greys + 40 * errors[:, :, None, None, None]).expand(-1, -1, 3, 128, 128)
    styles = torch.tensor([0, 1, 0, 1]).expand(len(concepts), -1)
    return Pool(greys.expand(-1, 6, 3, 128, 128).to(torch.uint8), samples.round().to(torch.uint8), errors, styles)


@pytest.fixture
def subjects(captions: Captions) -> Subjects:
    """The concepts alone, as in `pool`."""
    return Subjects(Author(captions), torch.zeros(4, 3, 4, 128, 128, dtype=torch.uint8), {}, seed=0, composed=0)


@pytest.fixture
def encoded(captions: Captions, words: CLIPTokenizer) -> EncodedScenes:
    """Ten scenes; each latent is filled with its scene's number times ten, and its style's; on tint 0, with half."""
    numbers = (10.0 * torch.arange(10)[:, None] + torch.arange(3))[:, :, None, None, None]
    latents = numbers.expand(10, 3, *LATENT_SHAPE).half()
    values = torch.zeros(10, coupling.COUNT)
    values[:, coupling.TINT] = torch.randn(10, coupling.COUNT, generator=torch.Generator().manual_seed(5))[:, 3:5]
    author, rng = Author(captions), random.Random(6)
    scenes = [Scene((Thing(number % 4),), 1 + number % 3) for number in range(10)]
    return EncodedScenes(
        tokens(words, [author.caption(scene, rng) for scene in scenes]).short(),
        latents,
        latents / 2,
        values,
        torch.arange(10) % 2 == 0,
        torch.tensor([OPEN, OPEN, 0, 1, 2] * 2).char(),
        torch.tensor([len(scene.shown) for scene in scenes]).char(),
        torch.stack([code(scene) for scene in scenes]).short(),
    )


@pytest.fixture
def targets(concepts: list[Concept]) -> Targets:
    """Of five tints. Each latent is filled with its own number; on tint 0, with that of its concept and style."""
    size = (len(concepts), len(STYLES), 5)
    numbers = torch.arange(size[0] * size[1] * size[2]).view(*size, 1, 1, 1)
    plain = torch.arange(size[0] * size[1]).view(*size[:2], 1, 1, 1)
    values = torch.randn(len(concepts), 5, coupling.COUNT, generator=torch.Generator().manual_seed(3))
    return Targets(numbers.expand(*size, *LATENT_SHAPE).half(), plain.expand(*size[:2], *LATENT_SHAPE).half(), values)


@pytest.fixture
def sampler(targets: Targets, encoded: EncodedScenes, captions: Captions, words: CLIPTokenizer) -> Sampler:
    return Sampler(targets, encoded, captions, words)
