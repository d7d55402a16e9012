import re
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from emoji_model import package, prompts
from emoji_model.captions import Captions, phrasings
from emoji_model.prompts import COMBINED, COMPOSED, SYNONYMS, TEMPLATES, UNSEEN, load_concepts, split_concepts
from emoji_model.scenes import COLOURS, Author, Scene, Thing, withheld
from emoji_model.sources import Concept
from pahi_rt.errors import BundleError, PromptError
from pahi_rt.train.prompts import key, load_split
from pahi_rt.train.recipe import load_recipe

VALIDATION, TEST = 480, 320


@pytest.fixture
def many() -> list[Concept]:
    """Of every third concept two synonyms are known."""
    synonyms = [(f"name {n}", f"alias {n}") if n % 3 == 0 else () for n in range(72)]
    return [Concept("x", f"thing {n}", names, (), f"kind {n % 4}", {}) for n, names in enumerate(synonyms)]


def phrases_in(texts: tuple[str, ...], concepts: list[Concept]) -> Counter[str]:
    """Labels of the concepts that the texts are phrasings of -> how many of them."""
    owner = {t: c.label for c in concepts for phrase in (c.label, *c.synonyms) for t in phrasings(phrase)}
    return Counter(owner[text] for text in texts)


def test_the_shipped_vocabulary_gives_the_split_of_the_recipe() -> None:
    settings = load_recipe("emoji").prompts
    split = load_split(settings.source, settings.validation, settings.test, settings.seed)
    assert (len(split.validation), len(split.test)) == (VALIDATION, TEST)
    sizes = {name: len(group) for name, group in split.groups.items()}
    assert sizes[COMBINED] == TEST // 4
    assert sizes[UNSEEN] == sizes[SYNONYMS] + sizes[TEMPLATES] == TEST * 3 // 8
    assert min(sizes[SYNONYMS], sizes[TEMPLATES]) >= 40
    everything = [key(text) for part in (split.train, split.validation, split.test) for text in part]
    assert len(set(everything)) == len(everything)
    phrases = [phrase for concept in load_concepts() for phrase in (concept.label, *concept.synonyms)]
    plain = {key(text) for phrase in phrases for text in phrasings(phrase)}
    composed = COMPOSED + VALIDATION // 4 + TEST // 4
    assert len(set(everything) - plain) == composed


def test_new_combinations_are_of_ideas_that_are_trained_on() -> None:
    concepts = load_concepts()
    split, plain = prompts.split(VALIDATION, TEST, 0), split_concepts(concepts, VALIDATION * 3 // 4, TEST * 3 // 4, 0)
    assert set(plain.train) < set(split.train)
    assert not set(split.groups[COMBINED]) & {*split.train, *split.validation}
    assert prompts.split(40, 80, 0).train == split.train


def test_scenes_are_shared_out_by_what_is_withheld() -> None:
    names = [Scene((Thing(0, colour),)) for colour in COLOURS]
    kept = [scene for scene in names if withheld(scene)]
    assert 0 < len(kept) < len(names)
    assert [scene for scene in names if prompts._may_be(scene, {0}, "test")] == kept
    assert [scene for scene in names if prompts._may_be(scene, {0}, "train")] == [s for s in names if s not in kept]
    assert not any(prompts._may_be(scene, {1}, part) for scene in names for part in ("train", "test"))
    assert not any(prompts._may_be(replace(scene, style=0), {0}, "test") for scene in kept)


def test_every_test_prompt_says_what_it_means() -> None:
    concepts = load_concepts()
    split = split_concepts(concepts, VALIDATION, TEST, 0)
    assert split.meanings.keys() == set(split.test)
    owner = {t: c.label for c in concepts for phrase in (c.label, *c.synonyms) for t in phrasings(phrase)}
    assert {text: owner[text] for text in split.test} == split.meanings


def test_held_out_concepts_are_many_of_every_category_and_never_trained_on() -> None:
    concepts = load_concepts()
    split = split_concepts(concepts, VALIDATION, TEST, 0)
    seen, unseen = phrases_in(split.train, concepts), phrases_in(split.groups[UNSEEN], concepts)
    chosen_by = phrases_in(split.validation, concepts)
    assert len(unseen) >= 48
    assert not seen.keys() & unseen.keys()
    assert not chosen_by.keys() & unseen.keys()
    assert {c.category for c in concepts if c.label in unseen} == {c.category for c in concepts}
    assert max(unseen.values()) - min(unseen.values()) <= 1, "concepts take turns"


def test_a_new_phrasing_is_of_a_concept_that_is_trained_on_in_other_words(many: list[Concept]) -> None:
    split = split_concepts(many, 16, 40, 0)
    rephrased = (*split.groups[SYNONYMS], *split.groups[TEMPLATES])
    seen, new = phrases_in(split.train, many), phrases_in(rephrased, many)
    assert len(new) >= 20
    assert new.keys() <= seen.keys()
    assert not set(rephrased) & set(split.train)
    assert all("thing" in text for text in split.groups[TEMPLATES])
    assert not any("thing" in text for text in split.groups[SYNONYMS])
    words = {word for text in split.train for word in text.split()}
    assert {word for text in split.groups[TEMPLATES] for word in text.split()} <= words


def test_a_synonym_is_held_out_in_all_its_templates(many: list[Concept]) -> None:
    split = split_concepts(many, 16, 40, 0)
    seen, with_synonyms = phrases_in(split.train, many), [c for c in many if c.synonyms]
    trained = [
        [s for s in c.synonyms if set(phrasings(s)) & set(split.train)] for c in with_synonyms if c.label in seen
    ]
    assert trained
    assert all(len(synonyms) == 1 for synonyms in trained)
    assert all(set(phrasings(synonym)) <= set(split.train) for (synonym,) in trained)


def test_what_may_mean_concepts_of_two_parts_is_in_none() -> None:
    concepts = [Concept("x", f"thing {n}", ("shared",), (), "kind", {}) for n in range(24)]
    split = split_concepts(concepts, 4, 8, 0)
    assert not {text for text in (*split.train, *split.validation, *split.test) if "shared" in text}


def test_training_prompts_depend_on_the_seed_and_not_on_the_sizes(many: list[Concept]) -> None:
    first = split_concepts(many, 16, 40, 0)
    assert split_concepts(many, 2, 4, 0).train == first.train
    assert set(split_concepts(many, 2, 4, 0).groups[UNSEEN]) < set(first.groups[UNSEEN])
    assert split_concepts(many, 16, 40, 0) == first
    assert split_concepts(many, 16, 40, 1).train != first.train


@pytest.mark.parametrize(("sizes", "named"), [((1000, 4), 500), ((4, 4000), 2000), ((4, -2), -1)])
def test_more_than_there_is_is_refused_and_the_fix_fits(sizes: tuple[int, int], named: int) -> None:
    concepts = load_concepts()
    with pytest.raises(PromptError, match=f"{named} held-out prompts of the group") as caught:
        split_concepts(concepts, *sizes, 0)
    validation, test = map(int, re.findall(r"=(\d+)", caught.value.fix))
    assert split_concepts(concepts, validation, test, 0).train


def test_packaging_writes_the_synonyms_and_rude_ones_are_no_prompts(concepts: list[Concept]) -> None:
    author = Author(Captions([replace(concepts[0], synonyms=("cat", "shit"))]))
    rows = package.vocabulary(author, {})["concepts"]
    assert rows[0]["synonyms"] == ["cat", "shit"]
    assert prompts._synonyms(rows[0]) == ("cat",)
    assert prompts._synonyms({"label": "cat face"}) == ()


def test_a_bundle_without_a_vocabulary_is_refused(
    folder: Path, edit: Callable[[Callable[[dict[str, Any]], object]], Path]
) -> None:
    edit(lambda manifest: manifest.update(vocabulary=None))
    with pytest.raises(BundleError, match="lists no concepts"):
        load_concepts(str(folder))
