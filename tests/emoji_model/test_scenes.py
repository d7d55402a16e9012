"""Scenes: captions say what is drawn, and nothing that is withheld is ever drawn for training."""

import random

import pytest

from emoji_model.captions import Captions, article, plural
from emoji_model.scenes import COLOURS, Author, Scene, Thing, names, withheld
from emoji_model.sources import STYLES, Concept


@pytest.fixture
def author(concepts: list[Concept]) -> Author:
    return Author(Captions(concepts))


@pytest.mark.parametrize(
    ("phrase", "one", "many"),
    [
        ("cat face", "a cat face", "cat faces"),
        ("octopus", "an octopus", "octopuses"),
        ("unicorn", "a unicorn", "unicorns"),
        ("mouse", "a mouse", "mice"),
        ("glass of milk", "a glass of milk", "glasses of milk"),
        ("fireworks", "fireworks", "fireworks"),
        ("bus", "a bus", "buses"),
    ],
)
def test_articles_and_plurals(phrase: str, one: str, many: str) -> None:
    assert (article(phrase), plural(phrase)) == (one, many)


def test_names_mean_the_concept_before_any_other(author: Author) -> None:
    assert author.names[0] == ["cat face", "face", "cat"]
    assert author.names[1] == ["dog face", "dog", "animal", "pet"]
    assert names(author.captions, 3) == ["hot face", "hot"]


def test_captions_say_what_is_shown(author: Author) -> None:
    rng = random.Random(0)
    scenes = [author.draw(rng) for _ in range(600)]
    for scene in scenes:
        words = author.caption(scene, rng).replace(",", "").replace("grey", "gray").split()
        for word in filter(None, (scene.background, *(thing.colour for thing in scene.things))):
            assert word in words
        assert ("three" in words) == (scene.number == 3)
        assert ("sunglasses" in words) == (scene.worn == "sunglasses")
        assert (scene.style is not None) == any(style in words for style in STYLES)
        assert set(words) - {"gray"} <= set(author.words())
    assert {scene.number for scene in scenes} == {1, 2, 3}
    assert {scene.worn for scene in scenes} == {None, "sunglasses", "crown", "top hat"}
    assert any(len(scene.things) == 2 for scene in scenes)


def test_only_faces_wear_sunglasses(author: Author) -> None:
    rng = random.Random(1)
    wearers = {s.things[0].concept for s in (author.draw(rng) for _ in range(300)) if s.worn == "sunglasses"}
    assert wearers <= {0, 1}


def test_a_thing_with_a_colour_in_its_name_keeps_it(concepts: list[Concept]) -> None:
    apple = Concept("\N{RED APPLE}", "red apple", ("apple",), ("fruit", "red"), "food", {})
    heart = Concept("\N{BLUE HEART}", "blue heart", (), ("blue",), "hearts", {})
    author, rng = Author(Captions([apple, heart])), random.Random(0)
    captions = [author.caption(Scene((author.thing(rng, 1.0),)), rng) for _ in range(200)]
    assert all(sum(word in COLOURS for word in caption.split()) <= 1 for caption in captions)
    assert any("blue apple" in caption for caption in captions)


def test_what_is_withheld_depends_on_every_combination() -> None:
    coloured = [Scene((Thing(number, colour),)) for number in range(60) for colour in COLOURS]
    share = sum(map(withheld, coloured)) / len(coloured)
    assert 0.04 < share < 0.13
    kept_back = next(scene for scene in coloured if withheld(scene))
    assert withheld(Scene(kept_back.things, background="green"))
    assert withheld(Scene((Thing(400), *kept_back.things)))


def test_training_never_sees_what_is_withheld(author: Author) -> None:
    rng = random.Random(2)
    assert not any(withheld(author.draw(rng)) for _ in range(500))
    assert any(withheld(author.propose(rng)) for _ in range(500))
