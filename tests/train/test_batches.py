from __future__ import annotations

import pytest
import torch

from pahi_rt.train.batches import TRAINING, VALIDATION, choose_prompts, draw_pairs, seeded

SHAPE = (2, 4, 4)


def test_every_number_of_the_key_counts() -> None:
    keys = [
        (0, 0, 0, 0),
        (1, 0, 0, 0),
        (0, 1, 0, 0),
        (0, 0, 1, 0),
        (0, 0, 0, 1),
        (2**32, 0, 0, 0),
        (2**63 - 1, 0, 0, 0),
    ]
    drawn = {tuple(torch.randn(4, generator=seeded(*key)).tolist()) for key in keys}
    assert len(drawn) == len(keys)


def test_a_recorded_draw() -> None:
    """A run must not depend on the version that began it."""
    drawn = torch.randint(1000, (4,), generator=seeded(7, TRAINING, 3, 5)).tolist()
    assert drawn == [519, 497, 550, 980]


def test_a_recorded_order() -> None:
    assert choose_prompts(7, 2, 4, 10) == [8, 4, 6, 2]
    assert choose_prompts(7, 3, 4, 10) == [4, 7, 9, 5]


def test_prompts_are_put_in_order_once_in_a_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    turns: list[int] = []
    order = torch.randperm

    def shuffle(count: int, generator: torch.Generator) -> torch.Tensor:
        turns.append(count)
        return order(count, generator=generator)

    monkeypatch.setattr(torch, "randperm", shuffle)
    for step in range(50):
        choose_prompts(99, step, 4, 100)
    assert turns == [100, 100]


def test_every_prompt_comes_once_before_any_comes_again() -> None:
    count, batch = 7, 3
    chosen = [index for step in range(14) for index in choose_prompts(0, step, batch, count)]
    turns = [chosen[start : start + count] for start in range(0, len(chosen), count)]
    assert all(sorted(turn) == list(range(count)) for turn in turns)
    assert len({tuple(turn) for turn in turns}) == len(turns)


def test_a_batch_may_be_larger_than_the_prompts() -> None:
    chosen = choose_prompts(0, 1, 10, 4)
    assert len(chosen) == 10
    assert {chosen.count(index) for index in range(4)} <= {2, 3}


def test_noise_depends_on_the_sample_and_not_on_its_neighbours() -> None:
    whole = draw_pairs(3, TRAINING, 5, range(6), SHAPE, "fresh")
    parts = [draw_pairs(3, TRAINING, 5, samples, SHAPE, "fresh") for samples in ([0, 1], [2], [3, 4, 5])]
    for half in range(2):
        assert torch.equal(whole[half], torch.cat([part[half] for part in parts]))
    assert not torch.equal(whole[0], draw_pairs(3, TRAINING, 6, range(6), SHAPE, "fresh")[0])
    assert not torch.equal(whole[0], draw_pairs(3, VALIDATION, 5, range(6), SHAPE, "fresh")[0])


def test_noise_is_standard_gaussian() -> None:
    eps, eps_prime = draw_pairs(0, TRAINING, 0, range(500), SHAPE, "fresh")
    assert eps.shape == (500, *SHAPE)
    for noise in (eps, eps_prime):
        assert abs(noise.mean()) < 0.03
        assert abs(noise.std() - 1) < 0.03
    assert abs((eps * eps_prime).mean()) < 0.03
