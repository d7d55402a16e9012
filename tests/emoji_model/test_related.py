"""Related words: near in meaning, drawn, and nouns only."""

import numpy as np

from emoji_model import related
from emoji_model.captions import Captions
from emoji_model.sources import Concept


def unit(*values: float) -> np.ndarray:
    return np.array(values, np.float32) / np.linalg.norm(values)


def test_the_nearest_drawn_words_come_first() -> None:
    vectors = {"truck": unit(1, 0), "taxi": unit(1, 1), "lorry": unit(1, 0.1), "sadness": unit(-1, 0)}
    assert related.relate(vectors, ["lorry", "sadness"], ["taxi", "truck", "unheard"]) == {"lorry": ["truck", "taxi"]}


def test_drawn_words_are_single_and_not_the_commonest(concepts: list[Concept]) -> None:
    captions = Captions(concepts)
    assert related.drawn_words(captions, ["face"]) == ["cat", "dog", "fire", "flame"]
    assert related.drawn_words(captions, ["face", "fire"]) == ["cat", "dog", "flame"]


def test_senses_of_wordnet() -> None:
    index = b"  1 licence text\nlight n 15 2 @ ~ 15 13 1 2\nlorry n 2 1 @ 2 0 3 4\n"
    assert related._senses(index) == {"light": 15, "lorry": 2}


def test_an_emoji_that_is_not_drawn_has_keywords() -> None:
    entries = [
        {"label": "astronaut", "tags": ["space", "rocket"]},
        {"label": "person: beard", "tags": ["rocket"]},
        {"label": "moai", "tags": ["stoneface"]},
    ]
    assert related.keywords(entries, ["rocket", "cat"]) == {"astronaut": ["rocket"]}
