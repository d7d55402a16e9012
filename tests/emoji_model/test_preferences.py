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

from emoji_model import preferences, scorer, text
from emoji_model.pools import Pool
from emoji_model.subjects import Subjects
from emoji_model.trainer import Worker
from pahi_rt.errors import PahiError


def draw(pool: Pool, subjects: Subjects, words: CLIPTokenizer, seed: int = 0) -> preferences.Batch:
    return preferences.draw_batch(pool, subjects, words, 16, torch.Generator().manual_seed(seed))


def test_batches_depend_on_the_generator_alone(pool: Pool, subjects: Subjects, words: CLIPTokenizer) -> None:
    first, again, other = (draw(pool, subjects, words, seed) for seed in (1, 1, 2))
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
def test_differences_are_better_minus_worse(pool: Pool, subjects: Subjects, words: CLIPTokenizer, seed: int) -> None:
    """A scorer that knows the pictures' true grey: darker is nearer to the drawing."""
    batch = draw(pool, subjects, words, seed)

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
        twin=batch.real + 0.05,
        twin_of_real=torch.ones(16, dtype=torch.bool),
        fair=torch.arange(16) < 5,
    )
    network: Any = Darkness()
    differences = preferences.compare(network, preferences.look(network, batch.pictures), batch)
    assert (differences["real"] > 0).all()
    assert (differences["sample"] > 0).all()
    assert 0 < len(differences["sample"]) <= 16
    assert differences["match"].abs().max() == 0  # the words do not count for this scorer
    torch.testing.assert_close(differences["steady"], torch.full((16,), -0.1))
    torch.testing.assert_close(differences["style"], torch.full((5,), 0.05))


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


def test_a_picture_is_jittered_twice(pool: Pool, subjects: Subjects, words: CLIPTokenizer) -> None:
    batch = draw(pool, subjects, words)
    assert not torch.equal(batch.one, batch.again)
    # Contrast and brightness may move a grey of 0.16 to 0.94 by no more than a tenth, twice.
    assert (batch.one - batch.again).mean((1, 2, 3)).abs().max() < 0.2


def test_convolutions_are_exact_unless_they_learn(words: CLIPTokenizer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("emoji_model.trainer.has_bfloat16", lambda: True)
    network = scorer.KINDS["emoji-a"](words)
    pictures = torch.rand(2, 3, 128, 128, generator=torch.Generator().manual_seed(0))
    rough, exact = (preferences.look(network.train(mode), pictures) for mode in (True, False))
    in_the_same_layout = pictures.contiguous(memory_format=torch.channels_last)
    assert torch.equal(exact, network.look(in_the_same_layout)) and rough.dtype == torch.float32
    assert 1e-3 < (rough - exact).abs().max() < 0.1


def test_only_pictures_of_one_style_are_compared() -> None:
    errors = torch.tensor([[1.0, 8.0, 1.1, 2.0, 8.0], [1.0, 1.1, 5.0, 6.0, 1.0]])
    pool = Pool(torch.empty(0), torch.empty(0), errors, torch.tensor([[0, 1, 0, 0, 1], [0, 0, 1, 2, 0]]))
    concepts = torch.arange(2).repeat(100)
    places, telling = preferences.draw_places(pool, concepts, torch.Generator().manual_seed(0))
    assert torch.equal(telling, concepts == 0)  # within the styles of 1 nothing is clearly better
    drawn = {frozenset(pair) for pair in places[telling].tolist()}
    assert drawn == {frozenset({0, 3}), frozenset({2, 3})}
    assert set(places[concepts == 1, 0].tolist()) == set(range(5))


def test_the_twin_of_a_drawing_is_the_same_tint_in_another_style() -> None:
    """Two pools of three styles and two tints, each picture with its number as its grey."""
    numbers = torch.arange(12).view(1, 12, 1, 1, 1).expand(-1, -1, 3, 1, 1).to(torch.uint8)
    errors, styles = torch.tensor([[1.0, 1.2, 1.0, 1.4, 1.0, 1.0]]), torch.tensor([[0, 1, 2, 0, 1, 1]])
    pool = Pool(numbers, 100 + numbers[:, :6], errors, styles)
    real, one = torch.arange(12).repeat(50), torch.arange(6).repeat(100)
    twin, of_real, fair = preferences._draw_twin(
        pool, torch.zeros(600, dtype=torch.int64), real, one, torch.Generator().manual_seed(0)
    )
    grey = (255 * twin[:, 0, 0, 0]).round().long()
    drawn, place = grey[of_real], real[of_real]
    assert 200 < of_real.sum() < 400
    assert (drawn // 6 == place // 6).all() and (drawn % 2 == place % 2).all()
    assert (drawn % 6 // 2 != place % 6 // 2).all()
    assert len({*zip(drawn.tolist(), place.tolist(), strict=True)}) == 24
    assert torch.equal(grey[~of_real], 100 + (one[~of_real] ^ 1))
    # Errors of 1.18, 1.06 and 1 are usual in the three styles: the first twins are 0.85 and 1.13 times as bad as usual,
    # the second 1 and 1.18 times, and the third have the same style.
    allowed = torch.tensor([False, False, True, True, False, False])
    assert fair[of_real].all() and torch.equal(fair[~of_real], allowed[one[~of_real]])


def test_neither_style_is_rewarded(monkeypatch: pytest.MonkeyPatch) -> None:
    class Scaled:
        def logits(self, differences: torch.Tensor) -> torch.Tensor:
            return 10 * differences

    network: Any = Scaled()
    batch: Any = None
    assert float(preferences.indifference(network, torch.tensor([0.1, -0.2]))) == pytest.approx(2.5)
    assert float(preferences.indifference(network, torch.zeros(0))) == 0
    same = dict.fromkeys((*preferences.PAIRS, *preferences.NEUTRAL), torch.tensor([0.1, -0.2]))
    monkeypatch.setattr(preferences, "compare", lambda *_: same)
    losses = preferences.prefer(network, torch.zeros(0), batch)
    assert {kind: float(losses[kind] / 2.5) for kind in preferences.NEUTRAL} == pytest.approx(preferences.NEUTRAL)


@pytest.mark.parametrize("name", scorer.KINDS)
def test_a_scorer_learns_is_saved_and_loaded(
    name: str, pool: Pool, subjects: Subjects, words: CLIPTokenizer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    schedule = replace(preferences.SCHEDULE, steps=3, batch=4)
    monkeypatch.setattr(preferences, "DETECTION", 1)
    monkeypatch.setattr(preferences, "RECOGNITION", 1)
    preferences.train(Worker(), tmp_path / name, name, pool, subjects, words, schedule)
    (row,) = (tmp_path / name / "metrics.jsonl").read_text().splitlines()
    assert {*preferences.PAIRS, *preferences.NEUTRAL} < json.loads(row).keys()
    network = preferences.load(tmp_path / name, name, words)
    preferences.standardise(network, pool, subjects.labels, words)
    path = tmp_path / "scorers" / f"{name}.safetensors"
    path.parent.mkdir()
    scorer.save(network, path, {"pair_accuracy": {"real": 0.5}})
    assert scorer.measured(path) == {"pair_accuracy": {"real": 0.5}}
    loaded = scorer.load(name, path)  # with the tokenizer beside that folder
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


def test_missing_and_foreign_files_are_told(tmp_path: Path) -> None:
    with pytest.raises(PahiError, match="no scorer"):
        scorer.load("emoji-a", tmp_path / "none.safetensors")
    foreign = tmp_path / "foreign.safetensors"
    foreign.write_bytes(b"not a scorer")
    with pytest.raises(PahiError, match="cannot read .*foreign"):
        scorer.load("emoji-a", foreign)


@pytest.mark.parametrize("name", scorer.KINDS)
def test_what_was_seen_is_judged_under_any_prompt(name: str, words: CLIPTokenizer) -> None:
    network, images = scorer.KINDS[name](words).eval(), torch.rand(2, 3, 128, 128)
    ids = text.tokens(words, ["red heart", "panda"])
    with torch.no_grad():
        seen = network.look(images)
        assert seen.shape == (2, network.width, 4, 4)
        assert torch.equal(network.judge(seen, ids), network(images, ids))
        assert not torch.equal(network.judge(seen, ids.flip(0)), network(images, ids))
