"""A small emoji world: real classes, made-up concepts."""

import pytest

from emoji_model.sources import STYLES, Concept


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
