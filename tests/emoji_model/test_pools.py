"""Pools: what is in them, and which noise their pictures come from."""

import pytest
import torch

from emoji_model import coupling, pools, tokenizer
from emoji_model.pools import Pool
from emoji_model.published import PUBLISHED
from emoji_model.subjects import Subjects
from pahi_rt.models.generators import load_generator


def test_a_pool_holds_drawings_and_what_the_generator_makes_of_the_label(subjects: Subjects) -> None:
    words, rng = tokenizer.load(PUBLISHED / "tokenizer"), torch.Generator().manual_seed(0)
    pool = pools.make(load_generator("emoji"), words, subjects, rng)
    assert pool.real.shape == (4, 3 * pools.REALS, 3, 128, 128) and pool.samples.shape == (
        4,
        pools.SAMPLES,
        3,
        128,
        128,
    )
    assert pool.errors.shape == pool.styles.shape == (4, pools.SAMPLES) and pool.errors.min() > 0
    # The drawings are empty, so only the tints differ, which are the same in all styles.
    tints = pool.real.float().mean((3, 4)).unflatten(1, (3, pools.REALS))
    assert tints.std(1).max() < 2 < tints.std(2).max()


def test_twins_differ_in_their_style_alone() -> None:
    rng = torch.Generator().manual_seed(0)
    noise = torch.randn(300, 4, 16, 16, generator=rng)
    both = pools.twin_noise(noise, rng).unflatten(0, (300, 2))
    assert torch.equal(both[:, 0], noise)
    first, second = (coupling.read(part) for part in both.unbind(1))
    torch.testing.assert_close(first[:, coupling.TINT.start :], second[:, coupling.TINT.start :])
    assert (coupling.style_of(first) != coupling.style_of(second)).all()
    torch.testing.assert_close(first[:, coupling.STYLE].sort().values, second[:, coupling.STYLE].sort().values)
    torch.testing.assert_close(*(coupling.write(part, torch.zeros(300, coupling.COUNT)) for part in both.unbind(1)))
    # Every style leads to every other one equally often.
    moves = coupling.style_of(first) * 3 + coupling.style_of(second)
    assert moves.bincount(minlength=9).tolist()[1] == pytest.approx(50, abs=22)


def test_unusual_noise_keeps_half_of_it_gaussian() -> None:
    noise = pools.unusual_noise(400, torch.Generator().manual_seed(0))
    assert noise[200:].std(dim=(1, 2, 3)).sub(1).abs().max() < 0.15
    assert noise[:200].std(dim=(1, 2, 3)).std() > 0.1


def test_bytes_are_rounded() -> None:
    assert pools.to_bytes(torch.tensor([0.0, 0.6 / 255, 254.6 / 255, 1.2])).tolist() == [0, 1, 255, 255]


def test_pools_are_joined_subject_by_subject(pool: Pool) -> None:
    both = pools.join([pool, pool])
    assert both.samples.shape[:2] == (len(pool.samples), 8)
    assert torch.equal(both.errors[:, 4:], pool.errors) and torch.equal(both.styles[:, :4], pool.styles)
    assert torch.equal(both.real[:, :6], pool.real)
