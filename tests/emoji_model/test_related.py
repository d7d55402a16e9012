"""Related words: near in meaning, drawn, and nouns only."""

import numpy as np

from emoji_model import related
from emoji_model.captions import Captions
from emoji_model.sources import Concept


def unit(*values: float) -> np.ndarray:
    return np.array(values, np.float32) / np.linalg.norm(values)


def test_the_nearest_drawn_words_come_first() -> None:
    vectors = {"truck": unit(1, 0), "taxi": unit(1, 1), "lorry": unit(1, 0.1), "sadness": unit(-1, 0)}
    kinds = {"truck": "06", "taxi": "06", "lorry": "06", "sadness": "12"}
    table = related.relate(vectors, kinds, ["lorry", "sadness"], ["taxi", "truck", "unheard"])
    assert table == {"lorry": ["truck", "taxi"]}


def test_a_drawn_word_of_another_kind_must_be_nearer() -> None:
    """Cosines of 0.58 and 0.71; of words that WordNet does not have, the kind is not known."""
    vectors = {"city": unit(1, 0), "fire": unit(1, 1.4), "swords": unit(1, 1)}
    for kind, offered in (("15", ["swords"]), ("19", ["swords", "fire"])):
        assert related.relate(vectors, {"city": kind, "fire": "19"}, ["city"], ["fire", "swords"]) == {"city": offered}


def test_drawn_words_are_single_and_not_the_commonest(concepts: list[Concept]) -> None:
    captions = Captions(concepts)
    assert related.drawn_words(captions, ["face"]) == ["cat", "dog", "fire", "flame"]
    assert related.drawn_words(captions, ["face", "fire"]) == ["cat", "dog", "flame"]


def test_senses_of_wordnet() -> None:
    index = b"  1 licence text\nlight n 3 2 @ ~ 3 1 5 1 2\nlorry n 2 1 @ 2 0 3 4\n"
    assert related._senses(index) == {"light": ["5", "1", "2"], "lorry": ["3", "4"]}


def test_an_emoji_that_is_not_drawn_has_keywords() -> None:
    entries = [
        {"label": "astronaut", "tags": ["space", "rocket"]},
        {"label": "person: beard", "tags": ["rocket"]},
        {"label": "moai", "tags": ["stoneface"]},
    ]
    assert related.keywords(entries, ["rocket", "cat"]) == {"astronaut": ["rocket"]}
