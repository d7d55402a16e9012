"""The page's choices, and the address that holds them."""

from __future__ import annotations

from pathlib import Path

import pytest

from pahi_rt.serve.limits import MOST_PICTURES
from tests.playground.conftest import Node


@pytest.mark.parametrize(
    ("address", "is_narrow", "most"),
    [("", False, 8), ("", True, 16), ("compare=0", False, 16), ("compare=1", True, 8), ("prior=gaussian", False, 16)],
)
def test_as_many_pictures_are_asked_for_as_the_server_draws(
    node: Node, modules: Path, address: str, is_narrow: bool, most: int
) -> None:
    """Side by side, each seed makes two of them."""
    counts = (1, 8, 9, 16, 99)
    asked = [{"address": f"{address}&count={count}", "isNarrow": is_narrow} for count in counts]
    for count, found in zip(counts, node("state", modules, asked), strict=True):
        assert found["request"]["count"] == min(count, most)
        assert found["most"] * len(found["request"]["prior_strengths"]) == MOST_PICTURES


@pytest.mark.parametrize("is_narrow", [False, True])
def test_an_address_brings_the_same_to_a_new_page_and_to_one_that_shows_something_else(
    node: Node, modules: Path, is_narrow: bool
) -> None:
    addresses = ("", "prompt=a+rocket&count=4", "prompt=&seed=9", "model=other&steps=2", "prior=hi&compare=1")
    asked = [{"address": address, "isNarrow": is_narrow} for address in addresses]
    for found in node("state", modules, asked):
        assert found["again"] == found["request"]
