"""Composed scenes and their captions: coloured things, named backgrounds, two or three of a kind, pairs, hats.

A caption of one concept is `captions.py`'s. Here several ideas meet in one caption, and nothing in it is ambiguous: a
phrase means its first concept. Style and tint stay open as ever, unless the caption names them.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterator
from dataclasses import dataclass, replace

from emoji_model.captions import STYLED, Captions, article, plural
from emoji_model.sources import STYLES, sequences

COLOURS: dict[str, tuple[int, int, int]] = {
    "red": (222, 40, 44), "orange": (245, 135, 30), "yellow": (250, 205, 45), "green": (65, 165, 70),
    "blue": (50, 115, 225), "purple": (135, 75, 190), "pink": (245, 125, 175), "brown": (130, 85, 55),
    "black": (42, 42, 48), "white": (250, 250, 250), "gray": (145, 148, 155),
}  # fmt: skip
"""Colour word -> its RGB, for things and for backgrounds."""
SPELLINGS = {"gray": ("gray", "grey")}
NUMBERS = {2: "two", 3: "three"}
WORN = {"sunglasses": "🕶", "crown": "👑", "top hat": "🎩"}
"""What a creature may wear -> its emoji."""
FACES = "🐵🐺🦊🐱🐶🦁🐯🐮🐷🐭🐹🐰🐻🐨🐼"
"""Creatures whose drawing is a face with the eyes in the middle, so that sunglasses fit; hats fit every creature."""
COUNTABLE = (
    "🐶🐱🐭🐹🐰🦊🐻🐼🐨🐯🦁🐮🐷🐸🐵🐔🐧🐦🦆🦅🦉🐺🐴🦄🐝🦋🐌🐞🐢🐍🐙🦀🐠🐬🐳🦈🐘"
    "🌹🌻🌷🌵🍄🌲⭐️☀️🌙🔥❄️☁️🍎🍊🍋🍌🍉🍇🍓🍒🍑🍍🥕🍕🍔🍟🌭🍩🍪🎂🧁🍦☕️🍺🥚🍞"
    "🚗🚲️🚌✈️🚀⛵️🏠️⚽️🏀🎈🎁🎸🎃👑🎩💎💻📕🔑💡❤️👻🤖👽️💀"
)
"""What people ask for several of. Drawing all concepts at half size as well would take three times the training."""
COUNTED = 0.9
"""Share of the things in scenes of several that are COUNTABLE."""
WEARING = ("{t} with {w}", "{t} with {w}", "{t} wearing {w}", "{t} in {w}")
GROUND = ("{t} on {a} background", "{t} on {a} background", "{t}, {b} background", "{t} on {b}",
          "{t} with {a} background")  # fmt: skip
SINGLE = ("{t}", "{t}", "{t}", "a picture of {t}", "an emoji of {t}", "the {p}", "{p}", "{p}", "{p} emoji", "cute {p}")
WITHHELD = 12
"""One in this many combinations is kept out of every training but the judge's, to be measured on. Two things count as
a combination in the order in which they are named; the background and what is worn, with the first of them."""


@dataclass(frozen=True)
class Thing:
    """A concept, perhaps in another colour than its own."""

    concept: int
    colour: str | None = None


@dataclass(frozen=True)
class Scene:
    """What a caption asks for: one thing, `number` times, or two different ones side by side."""

    things: tuple[Thing, ...]
    number: int = 1
    worn: str | None = None
    """A key of WORN."""
    background: str | None = None
    style: int | None = None
    """Index of the drawing style, if the caption names it."""

    @property
    def shown(self) -> tuple[Thing, ...]:
        """The things from left to right, each as often as it is drawn."""
        return self.things * self.number

    def combinations(self) -> Iterator[str]:
        """Names of the scene's pairs of ideas, by concept numbers and words."""
        first = self.things[0].concept
        for thing in self.things:
            if thing.colour:
                yield f"{thing.colour} {thing.concept}"
        for idea in (self.background and f"on {self.background}", self.worn, self.number > 1 and f"x{self.number}"):
            if idea:
                yield f"{first} {idea}"
        if len(self.things) > 1:
            yield f"{first} + {self.things[1].concept}"


def withheld(scene: Scene) -> bool:
    """Whether a combination of the scene is kept out of every training but the judge's."""
    return any(hashlib.sha256(name.encode()).digest()[0] % WITHHELD == 0 for name in scene.combinations())


class Author:
    """Draws scenes at random, and writes their captions."""

    def __init__(self, captions: Captions) -> None:
        self.captions, self.concepts = captions, captions.concepts
        self.names = [names(captions, number) for number in range(len(self.concepts))]
        self.colourless = [[name for name in known if not _coloured(name)] for known in self.names]
        self.creatures = [n for n, c in enumerate(self.concepts) if c.category in ("animals", "creatures")]
        countable, faces = set(sequences(COUNTABLE)), set(sequences(FACES))
        self.countable = [n for n, c in enumerate(self.concepts) if c.emoji in countable]
        self.faces = [n for n in self.creatures if self.concepts[n].emoji in faces]

    def words(self) -> list[str]:
        """All words that plain and composed captions can contain, sorted."""
        frame = " ".join((*WEARING, *GROUND, *SINGLE, *NUMBERS.values(), "and next to", *WORN, *COLOURS, "grey"))
        words = {word for word in frame.replace(",", "").split() if "{" not in word}
        plurals = {plural(name) for known in self.names for name in known}
        return sorted(words | {word for name in plurals for word in name.split()} | set(self.captions.words()))

    def draw(self, rng: random.Random) -> Scene:
        """A scene that is not withheld."""
        while withheld(scene := self.propose(rng)):
            pass
        return scene

    def propose(self, rng: random.Random) -> Scene:
        """A scene of any kind."""
        kind = rng.random()
        if kind < 0.22:
            scene = Scene((self.one_of_several(rng, 0.0), self.one_of_several(rng, 0.2)))
            scene = replace(scene, things=(self._coloured(scene.things[0], rng, 0.2), scene.things[1]))
        elif kind < 0.44:
            scene = Scene((self.one_of_several(rng, 0.25),), number=rng.choice((2, 3)))
        elif kind < 0.57:
            worn = rng.choice(list(WORN))
            wearer = rng.choice(self.faces if worn == "sunglasses" else self.creatures)
            scene = Scene((self._coloured(Thing(wearer), rng, 0.2),), worn=worn)
        elif kind < 0.8:
            scene = Scene((self.thing(rng, 1.0),))
        else:
            scene = Scene((self.thing(rng, 0.2),), background=rng.choice(list(COLOURS)))
        if scene.background is None and rng.random() < 0.15:
            scene = replace(scene, background=rng.choice(list(COLOURS)))
        return replace(scene, style=rng.randrange(len(STYLES)) if rng.random() < 0.12 else None)

    def thing(self, rng: random.Random, coloured: float = 0.0) -> Thing:
        """Any concept, in another colour than its own for a share `coloured` of them."""
        return self._coloured(Thing(rng.randrange(len(self.concepts))), rng, coloured)

    def one_of_several(self, rng: random.Random, coloured: float) -> Thing:
        """A thing for a scene of several, mostly one that people count."""
        if rng.random() < COUNTED and self.countable:
            return self._coloured(Thing(rng.choice(self.countable)), rng, coloured)
        return self.thing(rng, coloured)

    def _coloured(self, thing: Thing, rng: random.Random, share: float) -> Thing:
        """The thing in a random colour, for a `share` of those that have a name without a colour word."""
        if rng.random() < share and self.colourless[thing.concept]:
            return replace(thing, colour=rng.choice(list(COLOURS)))
        return thing

    def caption(self, scene: Scene, rng: random.Random) -> str:
        """A caption of the scene, as people would type it."""
        text, bare = self._subject(scene, rng)
        if scene.worn:
            worn = scene.worn if scene.worn == "sunglasses" else article(scene.worn)
            text = bare = rng.choice(WEARING).format(t=text, w=worn)
        if scene.style is not None:
            text = rng.choice(STYLED).format(s=list(STYLES)[scene.style], p=bare, a=text)
        elif len(scene.shown) == 1 and not scene.worn:
            text = rng.choice(SINGLE).format(t=text, p=bare)
        if scene.background:
            ground = spelling(scene.background, rng)
            text = rng.choice(GROUND).format(t=text, b=ground, a=article(ground))
        return text

    def _subject(self, scene: Scene, rng: random.Random) -> tuple[str, str]:
        """The things of a scene in words, with and without an article."""
        phrases = [self._phrase(thing, rng) for thing in scene.things]
        if scene.number > 1:
            several = plural(phrases[0])
            # Two is what a plural without a number shows.
            text = several if scene.number == 2 and rng.random() < 0.25 else f"{NUMBERS[scene.number]} {several}"
            return text, text
        if len(phrases) == 1:
            return article(phrases[0]), phrases[0]
        joint, bare = rng.choice(("and", "and", "and", "next to")), rng.random() < 0.25
        text = f" {joint} ".join(phrase if bare else article(phrase) for phrase in phrases)
        return text, text

    def _phrase(self, thing: Thing, rng: random.Random) -> str:
        known = self.colourless[thing.concept] if thing.colour else self.names[thing.concept]
        # The first names are the usual ones; tags such as `zoo` come last.
        name = known[min(int(rng.expovariate(1.0)), len(known) - 1)]
        return f"{spelling(thing.colour, rng)} {name}" if thing.colour else name


def names(captions: Captions, number: int) -> list[str]:
    """Short phrases that mean the concept before any other, the usual ones first: its label, the last word of its
    label, synonyms, tags."""
    concept = captions.concepts[number]
    words = concept.label.split()
    within = [tag for tag in concept.tags if tag in words]
    known = dict.fromkeys((concept.label, words[-1], *within, *concept.synonyms, *concept.tags))
    good = [p for p in known if captions.meanings.get(p, (-1,))[0] == number]
    return [p for p in good if p == concept.label or (p.isascii() and len(p) > 2 and len(p.split()) <= 2)]


def spelling(colour: str, rng: random.Random) -> str:
    """A spelling of the colour word."""
    return rng.choice(SPELLINGS.get(colour, (colour,)))


def _coloured(name: str) -> bool:
    return any(word in COLOURS or word == "grey" for word in name.split())
