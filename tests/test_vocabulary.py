from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

import pytest

from pahi_rt.bundle import open_bundle
from pahi_rt.errors import BundleError
from pahi_rt.vocabulary import Concept, Vocabulary


@pytest.fixture(scope="module")
def vocabulary(contract: Path) -> Vocabulary:
    loaded = Vocabulary.load(open_bundle(contract))
    assert loaded is not None
    return loaded


def test_load(vocabulary: Vocabulary) -> None:
    assert "apple" in vocabulary.words
    assert [concept.label for concept in vocabulary.concepts] == ["red apple", "green apple", "grinning cat"]
    assert vocabulary.concepts[0].category == "food"
    assert vocabulary.styles == ("noto",)


@pytest.mark.parametrize("prompt", ["a red apple", "A  Red, APPLE!", "two cat-dog", "", "!?", "\N{RED APPLE}"[:0]])
def test_known_words(vocabulary: Vocabulary, prompt: str) -> None:
    assert vocabulary.unknown(prompt) == {}


def test_unknown_words_and_the_nearest_known_ones(vocabulary: Vocabulary) -> None:
    assert vocabulary.unknown("a xylophone appel, catt and zzz") == {
        "xylophone": [],
        "appel": ["apple"],
        "catt": ["cat"],
        "and": [],
        "zzz": [],
    }


def test_each_unknown_word_once_and_ten_at_most(vocabulary: Vocabulary) -> None:
    assert list(vocabulary.unknown("xylo xylo XYLO")) == ["xylo"]
    assert len(vocabulary.unknown(" ".join(f"word{i}" for i in range(5000)))) == 10


@pytest.mark.parametrize("prompt", ["\N{RED APPLE}", "draw \N{RED APPLE}\ufe0f"])
def test_an_emoji_leads_to_its_concept(vocabulary: Vocabulary, prompt: str) -> None:
    assert ["red apple"] in vocabulary.unknown(prompt).values()


def test_other_emoji(vocabulary: Vocabulary) -> None:
    assert vocabulary.unknown("\N{ROCKET}") == {"\N{ROCKET}": []}
    both = "\N{GREEN APPLE}\N{RED APPLE}"
    assert sorted(vocabulary.unknown(both)[both]) == ["green apple", "red apple"]


def test_a_bundle_without_vocabulary(edit: Callable[..., Path]) -> None:
    folder = edit(lambda data: data.update(vocabulary=None))
    assert Vocabulary.load(open_bundle(folder)) is None


@pytest.mark.parametrize(
    "content", [b"", b"[]", b'{"words": []}', b'{"words": 3, "concepts": [], "styles": []}', b"\xff"]
)
def test_not_a_vocabulary(folder: Path, edit: Callable[..., Path], content: bytes) -> None:
    (folder / "vocabulary.json").write_bytes(content)
    record = {"sha256": hashlib.sha256(content).hexdigest(), "size": len(content)}
    edit(lambda data: data["files"].update({"vocabulary.json": record}))
    with pytest.raises(BundleError, match="is not a vocabulary|is not valid JSON"):
        Vocabulary.load(open_bundle(folder))


@pytest.fixture
def related() -> Vocabulary:
    concepts = (Concept("delivery truck", "\N{DELIVERY TRUCK}", "travel", ("van",)), Concept("red apple", "", "food"))
    words = frozenset(["a", "the", "blue", "red", "apple", "delivery", "truck", "van", "of"])
    return Vocabulary(words, concepts, ("noto",), {"lorry": ("truck", "taxi"), "pear": ("apple",)})


@pytest.mark.parametrize(
    ("prompt", "drawn"),
    [
        ("lorry", "truck"),
        ("a blue Lorry!", "a blue truck!"),
        ("a lorry of pear", "a truck of apple"),
        ("a lorry, zzz", "a truck, zzz"),
        ("A pear", "An apple"),
        ("a pear an lorry's", "an apple an lorry's"),
        # These name a thing that is drawn, so what else they say is left to the model.
        ("a truck and a lorry", "a truck and a lorry"),
        ("van", "van"),
        # Nothing is near.
        ("zzz", "zzz"),
        ("aple", "aple"),
        ("", ""),
    ],
)
def test_the_nearest_words_in_meaning_stand_in_for_unknown_ones(related: Vocabulary, prompt: str, drawn: str) -> None:
    assert related.in_known_words(prompt) == drawn


def test_meaning_comes_before_spelling(related: Vocabulary) -> None:
    assert related.unknown("a lorry, aple") == {"lorry": ["truck", "taxi"], "aple": ["apple"]}
