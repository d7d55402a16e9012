"""Pairs whose better half is known, and scorers that can learn them."""

import copy
import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import CLIPTokenizer

from emoji_model import preferences, scorer, text, tokenizer
from emoji_model.captions import Captions
from emoji_model.preferences import Pool
from emoji_model.sources import Concept
from emoji_model.trainer import Worker
from pahi_rt.errors import PahiError


@pytest.fixture
def captions(concepts: list[Concept]) -> Captions:
    return Captions(concepts)


@pytest.fixture
def words(captions: Captions, tmp_path: Path) -> CLIPTokenizer:
    return tokenizer.train(captions.words() * 5, tmp_path / "tokenizer")


@pytest.fixture
def pool(concepts: list[Concept]) -> Pool:
    """Each concept is a grey of its own; generated pictures are off by as much as their error says; two styles."""
    greys = torch.linspace(40, 200, len(concepts)).view(-1, 1, 1, 1, 1)
    errors = torch.rand(len(concepts), 4, generator=torch.Generator().manual_seed(0))
    samples = (greys + 40 * errors[:, :, None, None, None]).expand(-1, -1, 3, 128, 128)
    styles = torch.tensor([0, 1, 0, 1]).expand(len(concepts), -1)
    return Pool(greys.expand(-1, 2, 3, 128, 128).to(torch.uint8), samples.round().to(torch.uint8), errors, styles)


def draw(pool: Pool, captions: Captions, words: CLIPTokenizer, seed: int = 0) -> preferences.Batch:
    return preferences.draw_batch(pool, captions, words, 16, torch.Generator().manual_seed(seed))


def test_batches_depend_on_the_generator_alone(pool: Pool, captions: Captions, words: CLIPTokenizer) -> None:
    first, again, other = (draw(pool, captions, words, seed) for seed in (1, 1, 2))
    assert torch.equal(first.degraded, again.degraded) and torch.equal(first.input_ids, again.input_ids)
    assert not torch.equal(first.real, other.real)


def test_prompts_are_foreign_where_they_share_no_meaning() -> None:
    meanings = [{0}, {1, 2}, {2}, {0}, *({number} for number in range(4, 12))]
    foreign = preferences._foreign(meanings)
    assert foreign.shape == (preferences.FOREIGN, 12)
    shared = {(shift + 1, row) for shift, row in (~foreign).nonzero().tolist()}
    # Row 2 and the one before it; row 3 and the third before it.
    assert shared == {(1, 2), (3, 3)}


@pytest.mark.parametrize("seed", range(3))
def test_differences_are_better_minus_worse(pool: Pool, captions: Captions, words: CLIPTokenizer, seed: int) -> None:
    """A scorer that knows the pictures' true grey: darker is nearer to the drawing."""
    batch = draw(pool, captions, words, seed)

    class Darkness:
        training = False

        def look(self, pictures: torch.Tensor) -> torch.Tensor:
            return -pictures.mean((1, 2, 3))

        def judge(self, seen: torch.Tensor, ids: torch.Tensor) -> torch.Tensor:
            assert len(seen) == len(ids)
            return seen

    batch = replace(
        batch,
        one=batch.real + 0.2 * batch.errors[:, :1, None, None],
        other=batch.real + 0.2 * batch.errors[:, 1:, None, None],
        again=batch.real + 0.2 * batch.errors[:, :1, None, None] + 0.1,
    )
    network: Any = Darkness()
    differences = preferences.compare(network, preferences.look(network, batch.pictures), batch)
    assert (differences["real"] > 0).all()
    assert (differences["sample"] > 0).all()
    assert 0 < len(differences["sample"]) <= 16
    assert differences["match"].abs().max() == 0  # the words do not count for this scorer
    torch.testing.assert_close(differences["steady"], torch.full((16,), -0.1))


def test_detectors_learn_what_is_drawn() -> None:
    seen = torch.zeros(4, 1, 2, 2)
    seen[:2] = 3.0  # the drawings come first
    weights = torch.tensor([[1.0, 1.0]])
    losses = []
    for sign in (1, -1):
        detector = torch.nn.Linear(2, 1).requires_grad_(False)
        detector.load_state_dict({"weight": sign * weights, "bias": torch.tensor([-sign * 3.0])})
        losses.append(float(preferences.detect(detector, seen)["drawn"]))
    assert losses[0] == pytest.approx(math.log1p(math.exp(-3)), abs=1e-6)
    assert losses[1] == pytest.approx(math.log1p(math.exp(3)), abs=1e-6)


def test_a_picture_is_jittered_twice(pool: Pool, captions: Captions, words: CLIPTokenizer) -> None:
    batch = draw(pool, captions, words)
    assert not torch.equal(batch.one, batch.again)
    # Contrast and brightness may move a grey of 0.16 to 0.94 by no more than a tenth, twice.
    assert (batch.one - batch.again).mean((1, 2, 3)).abs().max() < 0.2


def test_convolutions_are_exact_unless_they_learn(words: CLIPTokenizer) -> None:
    network = scorer.KINDS["emoji-a"](len(words))
    pictures = torch.rand(2, 3, 128, 128, generator=torch.Generator().manual_seed(0))
    rough, exact = (preferences.look(network.train(mode), pictures) for mode in (True, False))
    assert torch.equal(exact, network.look(pictures)) and rough.dtype == torch.float32
    assert 0 < (rough - exact).abs().max() < 0.1


def test_only_pictures_of_one_style_are_compared() -> None:
    errors = torch.tensor([[1.0, 8.0, 1.1, 2.0, 8.0], [1.0, 1.1, 5.0, 6.0, 1.0]])
    pool = Pool(torch.empty(0), torch.empty(0), errors, torch.tensor([[0, 1, 0, 0, 1], [0, 0, 1, 2, 0]]))
    concepts = torch.arange(2).repeat(100)
    places, telling = preferences.draw_places(pool, concepts, torch.Generator().manual_seed(0))
    drawn = {frozenset(pair) for pair in places[(concepts == 0) & telling].tolist()}
    assert drawn == {frozenset({0, 3}), frozenset({2, 3})}
    assert not telling[concepts == 1].any()  # within its styles nothing is clearly better
    assert set(places[concepts == 1, 0].tolist()) == set(range(5))
    assert (telling == ((places == 0) | (places == 2) | (places == 3)).all(1) & (concepts == 0)).all()


def test_unusual_noise_keeps_half_of_it_gaussian() -> None:
    noise = preferences.unusual_noise(400, torch.Generator().manual_seed(0))
    assert noise[200:].std(dim=(1, 2, 3)).sub(1).abs().max() < 0.15
    assert noise[:200].std(dim=(1, 2, 3)).std() > 0.1


def test_bytes_are_rounded() -> None:
    assert preferences.to_bytes(torch.tensor([0.0, 0.6 / 255, 254.6 / 255, 1.2])).tolist() == [0, 1, 255, 255]


@pytest.mark.parametrize("name", scorer.KINDS)
def test_a_scorer_learns_is_saved_and_loaded(
    name: str, pool: Pool, captions: Captions, words: CLIPTokenizer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    schedule = replace(preferences.SCHEDULE, steps=2, batch=4)
    monkeypatch.setattr(preferences, "CONCEPT_STEPS", 1)
    preferences.train(Worker(), tmp_path / name, name, pool, captions, words, schedule)
    (row,) = (tmp_path / name / "metrics.jsonl").read_text().splitlines()
    assert set(preferences.PAIRS) < json.loads(row).keys()
    network = preferences.load(tmp_path / name, name, words)
    labels = [concept.label for concept in captions.concepts]
    preferences.standardise(network, pool, labels, words)
    path = tmp_path / f"{name}.safetensors"
    scorer.save(network, path, {"pair_accuracy": {"real": 0.5}})
    assert scorer.measured(path) == {"pair_accuracy": {"real": 0.5}}
    monkeypatch.setattr(scorer, "TOKENIZER", tmp_path / "tokenizer")
    loaded = scorer.load(name, path)
    pictures = torch.rand(2, 3, 128, 128, generator=torch.Generator().manual_seed(0)).requires_grad_()
    scores = loaded.score(pictures, ["cat face", "fire"])
    assert scores.shape == (2,)
    halved = copy.deepcopy(network).half().float()
    assert torch.equal(scores, halved(pictures, text.tokens(words, ["cat face", "fire"])))
    scores.sum().backward()
    assert pictures.grad is not None and pictures.grad.abs().sum() > 0
    assert loaded.scale > 0
    with pytest.raises(PahiError, match="128x128"):
        loaded.score(torch.rand(1, 3, 64, 64), ["fire"])
    with pytest.raises(PahiError, match="2 prompts for 1 pictures"):
        loaded.score(torch.rand(1, 3, 128, 128), ["fire", "cat face"])


def test_invariance_sees_a_scorer_that_loves_contrast(pool: Pool, captions: Captions, words: CLIPTokenizer) -> None:
    labels = [concept.label for concept in captions.concepts]

    def contrast(pictures: torch.Tensor, ids: torch.Tensor) -> torch.Tensor:
        return (pictures - 0.5).abs().mean((1, 2, 3))

    scores = torch.stack([contrast(pictures / 255, words) for pictures in pool.samples[:, 2:]])
    shifts = preferences.invariance(contrast, pool, labels, words)  # type: ignore[arg-type]
    expected = 0.03 * scores.mean() / scores.var(1).mean().sqrt()
    assert shifts["contrast x 1.03"] == pytest.approx(float(expected), rel=0.02)
    assert abs(shifts["sharpened"]) < 0.01


def test_invariance_sees_a_scorer_that_loves_light(pool: Pool, captions: Captions, words: CLIPTokenizer) -> None:
    labels = [concept.label for concept in captions.concepts]

    def brightness(pictures: torch.Tensor, ids: torch.Tensor) -> torch.Tensor:
        return pictures.mean((1, 2, 3))

    shifts = preferences.invariance(brightness, pool, labels, words)  # type: ignore[arg-type]
    assert shifts["floored"] < 0
    assert abs(shifts["sharpened"]) < 0.01


PASSING = {
    "pair_accuracy": dict.fromkeys(preferences.PAIRS, 0.9),
    "shift_by_harmless_changes_in_prompt_std": {"floored": -0.1, "sharpened": 0.0},
}


def test_a_scorer_must_be_good_on_every_kind_of_pair_and_mind_no_harmless_change() -> None:
    preferences.require("emoji-a", PASSING)
    accuracies, shifts = PASSING["pair_accuracy"], PASSING["shift_by_harmless_changes_in_prompt_std"]
    for change, message in (
        ({"pair_accuracy": accuracies | {"sample": 0.89}}, "sample pairs 0.89"),
        ({"pair_accuracy": accuracies | {"real": math.nan}}, "real pairs nan"),
        ({"pair_accuracy": {"real": 1.0}}, "match pairs None"),
        ({"shift_by_harmless_changes_in_prompt_std": shifts | {"floored": -0.11}}, "floored -0.11"),
        ({"shift_by_harmless_changes_in_prompt_std": {}}, "not measured"),
    ):
        with pytest.raises(PahiError, match=message):
            preferences.require("emoji-a", PASSING | change)


def test_missing_and_foreign_files_are_told(tmp_path: Path) -> None:
    with pytest.raises(PahiError, match="no scorer"):
        scorer.load("emoji-a", tmp_path / "none.safetensors")
    foreign = tmp_path / "foreign.safetensors"
    foreign.write_bytes(b"not a scorer")
    with pytest.raises(PahiError, match="cannot read .*foreign"):
        scorer.load("emoji-a", foreign)


def test_pools_are_joined_concept_by_concept(pool: Pool) -> None:
    both = preferences.join([pool, pool])
    assert both.samples.shape[:2] == (len(pool.samples), 8)
    assert torch.equal(both.errors[:, 4:], pool.errors) and torch.equal(both.styles[:, :4], pool.styles)
    assert torch.equal(both.real[:, :2], pool.real)


@pytest.mark.parametrize("name", scorer.KINDS)
def test_what_was_seen_is_judged_under_any_prompt(name: str, words: CLIPTokenizer) -> None:
    network, images = scorer.KINDS[name](len(words)).eval(), torch.rand(2, 3, 128, 128)
    ids = text.tokens(words, ["red heart", "panda"])
    with torch.no_grad():
        seen = network.look(images)
        assert seen.shape == (2, network.width, 4, 4)
        assert torch.equal(network.judge(seen, ids), network(images, ids))
        assert not torch.equal(network.judge(seen, ids.flip(0)), network(images, ids))
