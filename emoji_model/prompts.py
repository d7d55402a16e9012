"""The prompts of the embedded generator, split into a part to train priors on and held-out parts.

Prompts are made from the bundle's vocabulary: the label and the synonyms of each concept, alone and in the templates of
captions.py. They do not name a drawing style, which the noise has to decide.

A random split would not tell whether a prior has learned pictures or wordings, because "panda" and "a panda" are nearly
the same prompt. So whole concepts are held out, spread over the categories. Of every other concept, one wording is held
out: a synonym in all templates or, if there is none, the label in a few templates. Single words are still shared:
"grinning cat" may be held out while "grinning face" is not.

Captions of composed scenes come on top: "a blue frog", "two cats on red". Those of the training part show combinations
that the generator was trained on, those of the held-out parts one that it was not (`scenes.withheld`). All are of
concepts that priors are trained on.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterable, Sequence
from dataclasses import replace
from itertools import zip_longest
from typing import Any

from emoji_model.captions import Captions, phrasings
from emoji_model.scenes import Author, Scene, withheld
from emoji_model.sources import Concept
from pahi_rt.bundle import open_bundle
from pahi_rt.errors import BundleError, PromptError
from pahi_rt.train.prompts import Split, key, shuffle

UNSEEN, REPHRASED = "unseen concepts", "new phrasings"
SYNONYMS, TEMPLATES = "new synonyms", "new templates"
COMBINED = "new combinations"
"""The groups of the test part: UNSEEN, the two kinds of REPHRASED, and COMBINED. The two kinds are synonyms that no
training prompt has, and labels in templates that they were not trained in."""
COMPOSED = 2000
"""Training prompts of composed scenes."""
RUDE = {"shit"}
"""Synonyms that are not used: the first prompts of the test part are printed in the README."""
WITHHELD_LABELS = 3
"""How many of the 7 phrasings of the label are held out, for a concept without synonyms."""

Wordings = list[list[str]]
"""For each concept, its phrases or prompts."""


def load_concepts(bundle: str = "emoji") -> list[Concept]:
    """Load the concepts in a bundle's vocabulary, without tags and drawings. Raises BundleError if it has none."""
    opened = open_bundle(bundle)
    if opened.manifest.vocabulary is None:
        raise BundleError(f"bundle {bundle!r} lists no concepts", fix="use the one that ships: emoji")
    rows = json.loads(opened.file(opened.manifest.vocabulary).read_bytes())["concepts"]
    return [Concept(row["emoji"], row["label"], _synonyms(row), (), row["category"], {}) for row in rows]


def _synonyms(row: dict[str, Any]) -> tuple[str, ...]:
    # Older bundles do not list synonyms.
    return tuple(synonym for synonym in row.get("synonyms", ()) if synonym not in RUDE)


def split(validation: int, test: int, seed: int) -> Split:
    """Split the prompts of the embedded generator. A quarter of each held-out part are new combinations.

    Raises PromptError as `split_concepts` does.
    """
    concepts, combined = load_concepts(), (validation // 4, test // 4)
    plain = split_concepts(concepts, validation - combined[0], test - combined[1], seed)
    return add_combinations(plain, concepts, *combined, seed)


def split_concepts(concepts: Sequence[Concept], validation: int, test: int, seed: int) -> Split:
    """Split into training prompts and `validation` and `test` held-out ones: half unseen concepts, half new phrasings.

    The groups of the result separate these halves in the test part. Held-out concepts take turns, so that a small part
    covers many of them. What is held out from training depends on the seed, not on `validation` and `test`.
    Raises PromptError if there are fewer held-out prompts.
    """
    wordings = _share_out(concepts, seed)
    withheld = [_withhold(phrases, seed) for phrases in wordings["train"]]
    kept_back = {text for texts in withheld for text in texts}
    train = [text for phrases in wordings["train"] for text in _dress(phrases) if text not in kept_back]
    unseen = {part: [shuffle(_dress(phrases), seed) for phrases in wordings[part]] for part in ("validation", "test")}
    first = _choose(validation, unseen["validation"], withheld[::3], seed)
    second = _choose(test, unseen["test"], [*withheld[1::3], *withheld[2::3]], seed)
    chosen = [tuple(shuffle([*part[UNSEEN], *part[REPHRASED]], seed)) for part in (first, second)]
    # A concept without synonyms has a single phrase, its label.
    pairs = zip(wordings["train"], withheld, strict=True)
    same_words = {text for phrases, texts in pairs if len(phrases) == 1 for text in texts}
    groups = {
        UNSEEN: second[UNSEEN],
        SYNONYMS: tuple(text for text in second[REPHRASED] if text not in same_words),
        TEMPLATES: tuple(text for text in second[REPHRASED] if text in same_words),
    }
    labels = _label(wordings["test"], unseen["test"]) | _label(wordings["train"], withheld)
    return Split(tuple(shuffle(train, seed)), chosen[0], chosen[1], groups, {text: labels[text] for text in chosen[1]})


def add_combinations(plain: Split, concepts: Sequence[Concept], validation: int, test: int, seed: int) -> Split:
    """Add captions of composed scenes: COMPOSED to the training part, as many as said to the held-out parts.

    None of them is in the words of a plain prompt, as "an orange heart" would be.
    """
    author, parts = Author(Captions(concepts)), _assign(concepts, seed)
    trained = {number for number, part in enumerate(parts) if part == "train"}
    taken = {key(text) for c in concepts for phrase in (c.label, *c.synonyms) for text in phrasings(phrase)}

    def add(prompts: Sequence[str], name: str, count: int) -> tuple[str, ...]:
        rng = random.Random(f"{name} {seed}")
        found: dict[str, str] = {}
        while len(found) < count:
            scene = author.propose(rng)
            text = author.caption(scene, rng)
            if _may_be(scene, trained, name) and key(text) not in taken:
                found.setdefault(key(text), text)
        taken.update(found)
        return tuple(shuffle([*prompts, *found.values()], seed))

    # In this order, so that what is trained on does not depend on how much is held out.
    train, combined = add(plain.train, "train", COMPOSED), add((), "test", test)
    return replace(
        plain,
        train=train,
        validation=add(plain.validation, "validation", validation),
        test=tuple(shuffle([*plain.test, *combined], seed)),
        groups={**plain.groups, COMBINED: combined},
    )


def _may_be(scene: Scene, trained: set[int], part: str) -> bool:
    """Whether a part of the split may have the scene: its noise decides the style, and its concepts are trained on."""
    is_known = all(thing.concept in trained for thing in scene.things)
    return scene.style is None and is_known and withheld(scene) == (part != "train")


def _label(wordings: Wordings, prompts: Wordings) -> dict[str, str]:
    """Prompt -> the label of its concept."""
    return {text: phrases[0] for phrases, texts in zip(wordings, prompts, strict=True) for text in texts}


def _share_out(concepts: Sequence[Concept], seed: int) -> dict[str, Wordings]:
    """Part of the split -> the phrases of each of its concepts, label first.

    A phrase of several concepts belongs to the first one. If they are in different parts, it is dropped.
    """
    captions, parts = Captions(concepts), _assign(concepts, seed)
    wordings: dict[str, Wordings] = {"train": [], "validation": [], "test": []}
    for number, concept in enumerate(concepts):
        meanings = {phrase: captions.meanings[phrase] for phrase in (concept.label, *captions.synonyms[number])}
        own = [p for p, several in meanings.items() if several[0] == number and len({parts[n] for n in several}) == 1]
        if own:
            wordings[parts[number]].append(own)
    return wordings


def _assign(concepts: Sequence[Concept], seed: int) -> list[str]:
    """The part of every concept: category by category, of every twelve, two are for test and one for validation."""
    rank = {label: place for place, label in enumerate(shuffle({concept.label for concept in concepts}, seed))}
    order = sorted(range(len(concepts)), key=lambda number: (concepts[number].category, rank[concepts[number].label]))
    place = {number: index % 12 for index, number in enumerate(order)}
    return [{0: "test", 6: "test", 1: "validation"}.get(place[number], "train") for number in range(len(concepts))]


def _withhold(phrases: list[str], seed: int) -> list[str]:
    """The held-out prompts of a seen concept with these `phrases`, label first."""
    label, *synonyms = phrases
    if synonyms:
        return shuffle(phrasings(shuffle(synonyms, seed)[0]), seed)
    return shuffle(phrasings(label), seed)[:WITHHELD_LABELS]


def _choose(count: int, unseen: Wordings, rephrased: Wordings, seed: int) -> dict[str, tuple[str, ...]]:
    half = count // 2
    return {
        UNSEEN: _take_turns(half, unseen, UNSEEN, seed),
        REPHRASED: _take_turns(count - half, rephrased, REPHRASED, seed),
    }


def _take_turns(count: int, wordings: Wordings, group: str, seed: int) -> tuple[str, ...]:
    """The first `count` prompts: one of every concept, then a second one of every concept, and so on."""
    first = {texts[0]: texts for texts in wordings}
    turns = zip_longest(*(first[text] for text in shuffle(first, seed)))
    prompts = [text for turn in turns for text in turn if text is not None]
    if not 0 <= count <= len(prompts):
        what = f"{count} held-out prompts of the group {group!r} are asked for, and there are {len(prompts)}"
        fix = f"hold out at most twice {len(prompts)}: --set prompts.validation=160 --set prompts.test=320"
        raise PromptError(what, fix=fix)
    return tuple(prompts[:count])


def _dress(phrases: Iterable[str]) -> list[str]:
    return [text for phrase in phrases for text in phrasings(phrase)]
