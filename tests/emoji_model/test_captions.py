import random

from emoji_model.captions import Captions, phrasings
from emoji_model.sources import Concept


def test_a_label_outranks_a_synonym_and_a_synonym_a_tag(concepts: list[Concept]) -> None:
    captions = Captions(concepts)
    assert captions.meanings["fire"] == (2,)
    assert captions.meanings["cat"] == (0,)
    assert captions.meanings["pet"] == (1, 0)  # by MEANT


def test_a_phrase_of_many_concepts_asks_for_the_one_that_people_mean_by_it() -> None:
    labels = ("palm tree", "tree house", "rice ball", "soccer ball", "cat face")
    captions = Captions([Concept("x", label, (), ("tree", "ball", "thing"), "objects", {}) for label in labels])
    asked = {phrase: [labels[number] for number in captions.meanings[phrase]] for phrase in ("tree", "ball", "thing")}
    assert asked["tree"][:2] == ["palm tree", "tree house"]
    assert asked["ball"][:2] == ["soccer ball", "rice ball"]
    assert asked["thing"] == list(labels)
    assert captions.tags == [["tree", "thing"], [], [], ["ball"], []]


def test_every_caption_means_its_concept_and_names_its_style(concepts: list[Concept]) -> None:
    captions, rng = Captions(concepts), random.Random(0)
    for number in range(len(concepts)):
        for _ in range(200):
            caption = captions.draw(number, "twemoji", rng)
            assert caption.meanings[0] == number
            assert "twemoji" in caption.text


def test_every_word_of_every_caption_is_in_the_vocabulary(concepts: list[Concept]) -> None:
    captions, rng = Captions(concepts), random.Random(0)
    known = set(captions.words())
    for _ in range(500):
        text = captions.draw(rng.randrange(4), rng.choice((None, "noto")), rng).text
        assert set(text.replace(",", "").split()) <= known


def test_articles_fit_the_word() -> None:
    captions = Captions([Concept("🐙", "octopus", (), (), "animals", {})])
    texts = {captions.draw(0, None, random.Random(n)).text for n in range(200)}
    assert "an octopus" in texts
    assert "a octopus" not in texts


def test_phrasings_are_what_a_caption_without_a_style_can_be() -> None:
    captions = Captions([Concept("🐙", "octopus", (), (), "animals", {})])
    drawn = {captions.draw(0, None, random.Random(n)).text for n in range(200)}
    assert drawn == set(phrasings("octopus"))
    assert phrasings("fox")[:3] == ["fox", "fox emoji", "an emoji of a fox"]
