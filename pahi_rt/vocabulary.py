"""The vocabulary: the words that a small model was trained on, so that a user learns what it cannot draw.

The file: {"words": ["apple", ...], "styles": ["noto", ...], "concepts": [{"label": "red apple", "emoji": "...",
"category": "food", "synonyms": [...]}, ...], "related": {"lorry": ["truck", ...], ...}}. Bundles before 0.2 have no
table of related words.
"""

from __future__ import annotations

import difflib
import re
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from pahi_rt.bundle import Bundle
from pahi_rt.errors import BundleError
from pahi_rt.record import parse_json

_WORD_OR_SIGNS = re.compile(r"[^\W_]+(?:['’][^\W_]+)*|[^\w\s]+")
_VARIATION_SELECTOR = "\ufe0f"
_MOST = 10
"""Unknown words of a prompt that are reported."""


@dataclass(frozen=True)
class Concept:
    """A thing that the model can draw."""

    label: str
    emoji: str
    category: str
    synonyms: tuple[str, ...] = ()


@dataclass(frozen=True)
class Vocabulary:
    """The words, concepts and styles that a model knows."""

    words: frozenset[str]
    """The words of its training prompts, in lower case."""
    concepts: tuple[Concept, ...]
    """The things that it can draw."""
    styles: tuple[str, ...]
    related: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """A word that is not known -> words of things that the model draws, the nearest in meaning first."""

    @classmethod
    def load(cls, bundle: Bundle) -> Vocabulary | None:
        """Load the vocabulary of a bundle; None if it has none. Raises BundleError."""
        name = bundle.manifest.vocabulary
        if name is None:
            return None
        content, path = bundle.read(name), bundle.path / name
        try:
            return _parse(parse_json(content, str(path)))
        except (AttributeError, KeyError, TypeError) as error:
            raise BundleError(f"{path} is not a vocabulary: {error}", fix="export the bundle again") from error

    def unknown(self, prompt: str) -> dict[str, list[str]]:
        """The prompt's unknown words, in order, at most ten -> up to three known words that are nearest in meaning, or
        else in spelling."""
        found: dict[str, list[str]] = {}
        for word in _WORD_OR_SIGNS.findall(prompt.lower()):
            is_known = word in self.words or not (word[0].isalnum() or _is_picture(word))
            if not is_known and len(found) < _MOST:
                found[word] = self._nearest(word)
        return found

    def in_known_words(self, prompt: str) -> str:
        """The prompt with the nearest word in meaning for each unknown one: `a lorry` -> `a truck`.

        It is returned as it is if it names a thing that the model draws, or if no word of it has a related one.
        """
        if any(word in self.things for word in _WORD_OR_SIGNS.findall(prompt.lower())):
            return prompt
        for word in self.unknown(prompt):
            if word in self.related:
                prompt = _replace(prompt, word, self.related[word][0])
        return prompt

    @cached_property
    def things(self) -> frozenset[str]:
        """The nouns of the concepts' names: the last word of each."""
        names = (name for concept in self.concepts for name in (concept.label, *concept.synonyms))
        return frozenset(name.split()[-1].lower() for name in names if name.strip())

    @cached_property
    def _sorted(self) -> list[str]:
        return sorted(self.words)

    def _nearest(self, word: str) -> list[str]:
        if word in self.related:
            return list(self.related[word])
        if not _is_picture(word):
            return difflib.get_close_matches(word, self._sorted, n=3)
        drawn = [(_bare(concept.emoji), concept.label) for concept in self.concepts]
        inside = [(emoji, label) for emoji, label in drawn if emoji and emoji in _bare(word)]
        return [label for _, label in sorted(inside, key=lambda pair: -len(pair[0]))][:3]


def _replace(prompt: str, word: str, known: str) -> str:
    """`known` wherever the prompt has `word`, with the indefinite article that fits: `an airfield`, `a helicopter`."""
    article = "an" if known[0] in "aeiou" else "a"
    found = re.compile(rf"(?:\b([Aa])n?(\s+))?(?<![^\W_]){re.escape(word)}(?![^\W_])", re.IGNORECASE)
    return found.sub(lambda match: f"{match[1]}{article[1:]}{match[2]}{known}" if match[1] else known, prompt)


def _is_picture(signs: str) -> bool:
    return any(unicodedata.category(sign) == "So" for sign in signs)


def _bare(emoji: str) -> str:
    return emoji.replace(_VARIATION_SELECTOR, "")


def _parse(data: Any) -> Vocabulary:
    concepts = tuple(
        Concept(str(c["label"]), str(c["emoji"]), str(c["category"]), tuple(map(str, c.get("synonyms", ()))))
        for c in data["concepts"]
    )
    words = frozenset(str(word).lower() for word in data["words"])
    related = {str(word).lower(): tuple(map(str, near)) for word, near in data.get("related", {}).items()}
    return Vocabulary(words, concepts, tuple(str(style) for style in data["styles"]), related)
