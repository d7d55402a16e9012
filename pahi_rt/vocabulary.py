"""The vocabulary: the words that a small model was trained on, so that a user learns what it cannot draw.

The file: {"words": ["apple", ...], "styles": ["noto", ...], "concepts": [{"label": "red apple", "emoji": "...",
"category": "food", "synonyms": [...]}, ...]}. The synonyms are not read here.
"""

from __future__ import annotations

import difflib
import re
import unicodedata
from dataclasses import dataclass
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


@dataclass(frozen=True)
class Vocabulary:
    """The words, concepts and styles that a model knows."""

    words: frozenset[str]
    """The words of its training prompts, in lower case."""
    concepts: tuple[Concept, ...]
    """The things that it can draw."""
    styles: tuple[str, ...]

    @classmethod
    def load(cls, bundle: Bundle) -> Vocabulary | None:
        """Load the vocabulary of a bundle; None if it has none. Raises BundleError."""
        name = bundle.manifest.vocabulary
        if name is None:
            return None
        content, path = bundle.read(name), bundle.path / name
        try:
            return _parse(parse_json(content, str(path)))
        except (TypeError, KeyError) as error:
            raise BundleError(f"{path} is not a vocabulary: {error}", fix="export the bundle again") from error

    def unknown(self, prompt: str) -> dict[str, list[str]]:
        """The prompt's unknown words, in order, at most ten -> up to three known words that are most similar."""
        found: dict[str, list[str]] = {}
        for word in _WORD_OR_SIGNS.findall(prompt.lower()):
            is_known = word in self.words or not (word[0].isalnum() or _is_picture(word))
            if not is_known and len(found) < _MOST:
                found[word] = self._nearest(word)
        return found

    def _nearest(self, word: str) -> list[str]:
        if not _is_picture(word):
            return difflib.get_close_matches(word, sorted(self.words), n=3)
        drawn = [(_bare(concept.emoji), concept.label) for concept in self.concepts]
        inside = [(emoji, label) for emoji, label in drawn if emoji and emoji in _bare(word)]
        return [label for _, label in sorted(inside, key=lambda pair: -len(pair[0]))][:3]


def _is_picture(signs: str) -> bool:
    return any(unicodedata.category(sign) == "So" for sign in signs)


def _bare(emoji: str) -> str:
    return emoji.replace(_VARIATION_SELECTOR, "")


def _parse(data: Any) -> Vocabulary:
    concepts = tuple(Concept(str(c["label"]), str(c["emoji"]), str(c["category"])) for c in data["concepts"])
    words = frozenset(str(word).lower() for word in data["words"])
    return Vocabulary(words, concepts, tuple(str(style) for style in data["styles"]))
