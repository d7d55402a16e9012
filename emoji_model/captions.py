"""Captions of a concept, as people would type them, and the concepts that a phrase may mean."""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache

import inflect

from emoji_model.sources import STYLES, Concept

TEMPLATES = ("{p} emoji", "an emoji of {a}", "{a}", "a picture of {a}", "cute {p}", "the {p}")
STYLED = ("{s} style {p}", "{p} in {s} style", "{s} style emoji of {a}", "{s} {p}", "{p}, {s} style")
MEANT = {
    "adult": "man", "alcohol": "beer mug", "animal": "dog face", "bag": "handbag", "ball": "soccer ball",
    "beach": "palm tree", "box": "package", "breakfast": "pancakes", "building": "house",
    "celebration": "party popper", "clothing": "t shirt", "computer": "laptop", "cut": "scissors", "desert": "cactus",
    "dinosaur": "t rex", "doctor": "health worker", "drop": "droplet", "evil": "smiling face with horns",
    "excited": "star struck", "fantasy": "fairy", "farm": "cow face", "flower": "blossom", "fly": "airplane",
    "food": "hamburger", "forest": "deciduous tree", "fruit": "red apple", "full": "full moon",
    "funny": "face with tears of joy", "garden": "snail", "good": "thumbs up", "halloween": "jack o lantern",
    "health": "health worker", "insect": "butterfly", "instrument": "guitar", "lady": "woman",
    "laugh": "face with tears of joy", "light": "light bulb", "love": "red heart", "medicine": "pill",
    "money": "money bag", "monkey": "monkey face", "music": "musical note", "paper": "scroll",
    "person": "person running", "pet": "dog face", "plant": "potted plant", "please": "folded hands",
    "puppy": "dog face", "sad": "crying face", "scared": "face screaming in fear", "scary": "ghost", "sea": "sailboat",
    "snow": "snowflake", "space": "rocket", "sport": "soccer ball", "tear": "crying face", "teeth": "tooth",
    "tool": "hammer", "travel": "airplane", "tree": "deciduous tree", "ufo": "flying saucer", "unhappy": "crying face",
    "vegetable": "carrot", "vehicle": "automobile", "water": "droplet", "wedding": "ring", "win": "trophy",
    "wow": "face with open mouth",
}  # fmt: skip
"""Phrase that fits several concepts -> the one that people mean by it, where the rule of `Captions` finds another."""


@dataclass(frozen=True)
class Caption:
    """A caption and its meanings."""

    text: str
    meanings: tuple[int, ...]
    """Indices of the concepts that the text may mean. The first one is drawn."""


class Captions:
    """Draws captions. A phrase means the concepts with that label, else with that synonym, else with that tag.

    Of several concepts it asks for one: that of MEANT, else the first whose label ends with the phrase (`moon`:
    crescent moon), else the first that has it as a word, else the first. An embedding holds one picture: when the noise
    was to choose among four, what was drawn was a blend of all.
    """

    def __init__(self, concepts: Sequence[Concept]) -> None:
        self.concepts = concepts
        labels = _index((concept.label,) for concept in concepts)
        synonyms = _index(concept.synonyms for concept in concepts)
        tags = _index(concept.tags for concept in concepts)
        self.meanings = {
            phrase: tuple(sorted(numbers, key=lambda number: _distance(phrase, concepts[number].label)))
            for phrase, numbers in (tags | synonyms | labels).items()
        }
        self.synonyms = [self._meaning(number, concept.synonyms) for number, concept in enumerate(concepts)]
        self.tags = [self._meaning(number, concept.tags) for number, concept in enumerate(concepts)]

    def _meaning(self, concept: int, phrases: Iterable[str]) -> list[str]:
        """The phrases among `phrases` that ask for the concept."""
        return [phrase for phrase in phrases if self.meanings[phrase][0] == concept]

    def draw(self, concept: int, style: str | None, rng: random.Random) -> Caption:
        """A caption of the concept that names the drawing style if one is given."""
        phrase, meanings = self._phrase(concept, rng)
        return Caption(_dress(phrase, style, rng), meanings)

    def _phrase(self, concept: int, rng: random.Random) -> tuple[str, tuple[int, ...]]:
        label, kind = self.concepts[concept].label, rng.random()
        if kind < 0.25 and self.synonyms[concept]:
            phrase = rng.choice(self.synonyms[concept])
            return phrase, self.meanings[phrase]
        if kind < 0.45 and self.tags[concept]:
            phrase = rng.choice(self.tags[concept])
            return phrase, self.meanings[phrase]
        if kind < 0.53 and self.concepts[concept].tags:
            return f"{label} {rng.choice(self.concepts[concept].tags)}", (concept,)
        return label, (concept,)

    def words(self) -> list[str]:
        """All words that captions can contain, sorted."""
        phrases = [concept.label for concept in self.concepts] + list(self.meanings)
        frame = " ".join((*TEMPLATES, *STYLED)).replace(",", "").split()
        words = {word for phrase in phrases for word in phrase.split()} | set(STYLES) | {"a", "an"}
        return sorted(words | {word for word in frame if "{" not in word})


def _distance(phrase: str, label: str) -> int:
    """How far the label is from what the phrase asks for: 0 is nearest."""
    ends = label == phrase or label.endswith(f" {phrase}")
    return (MEANT.get(phrase) == label, ends, phrase in label.split(), True).index(True)


def _index(groups: Iterable[Iterable[str]]) -> dict[str, list[int]]:
    table: defaultdict[str, list[int]] = defaultdict(list)
    for number, phrases in enumerate(groups):
        for phrase in phrases:
            table[phrase].append(number)
    return table


def phrasings(phrase: str) -> list[str]:
    """The phrase alone and in every template, without a drawing style; a plural has no article, so it has one fewer."""
    dressed = (template.format(p=phrase, a=article(phrase)) for template in TEMPLATES)
    return list(dict.fromkeys((phrase, *dressed)))


@cache
def article(phrase: str) -> str:
    """The phrase with its indefinite article, if it is not a plural: `a unicorn`, `an hourglass`, `fireworks`."""
    return phrase if is_plural(phrase) else str(_english().a(phrase))


@cache
def plural(phrase: str) -> str:
    """The plural of a phrase: `mice`, `glasses of milk`, `fireworks`."""
    return phrase if is_plural(phrase) else str(_english().plural_noun(phrase))


def is_plural(phrase: str) -> bool:
    """Whether the phrase is a plural already, by the ending of its noun."""
    noun = phrase.split(" of ")[0]
    return noun.endswith("s") and not noun.endswith(("ss", "us", "is"))


@cache
def _english() -> inflect.engine:
    return inflect.engine()


def _dress(phrase: str, style: str | None, rng: random.Random) -> str:
    noun = article(phrase)
    if style is not None:
        return rng.choice(STYLED).format(s=style, p=phrase, a=noun)
    if rng.random() < 0.45:
        return phrase
    return rng.choice(TEMPLATES).format(p=phrase, a=noun)
