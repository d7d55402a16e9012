"""What the scorers are to ignore, and what they are to mind."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from emoji_model import distortions


def pictures(count: int = 40) -> tuple[Tensor, Tensor]:
    made = torch.rand(2, count, 3, 128, 128, generator=torch.Generator().manual_seed(0))
    return made[0], made[1]


def randoms(seed: int = 1) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_degrading_changes_every_picture_and_keeps_its_range() -> None:
    before, others = pictures()
    degraded = distortions.degrade(before, others, randoms())
    assert degraded.shape == before.shape
    assert degraded.min() >= 0 and degraded.max() <= 1
    assert ((degraded - before).abs().mean((1, 2, 3)) > 0.02).all()


@pytest.mark.parametrize("damage", distortions.DAMAGES)
def test_no_damage_is_like_the_next(damage: Callable[..., Tensor]) -> None:
    generator = randoms()
    picture, other = (part[0] for part in pictures(1))
    results = [damage(picture, other, generator) for _ in range(12)]
    assert len({tuple(result.flatten().tolist()) for result in results}) > (2 if damage is distortions.blur else 10)


def test_patches_and_tears_may_begin_anywhere() -> None:
    generator, black, white = randoms(), torch.zeros(3, 128, 128), torch.ones(3, 128, 128)
    patched = torch.stack([distortions.patch(black, white, generator) for _ in range(60)])
    edges = patched.mean((0, 1)).diff(dim=0).abs().sum(1)
    assert (edges[8:-8] > 0).float().mean() > 0.9  # on a grid, three rows of 127 would have them
    whole = pictures(1)[0][0]
    moved = [(distortions.tear(whole, black, generator) != whole).any(0) for _ in range(60)]
    assert len({(int(where.any(1).sum()), int(where.any(0).sum())) for where in moved}) > 20


def test_jitter_is_small_and_each_pictures_own() -> None:
    jittered = distortions.jitter(torch.full((8, 3, 128, 128), 0.5), randoms(0))
    means = jittered.mean((1, 2, 3))
    assert (means - 0.5).abs().max() < 0.06
    assert means.std() > 0.005


def test_blurring_means_over_squares_and_keeps_the_size() -> None:
    dot = torch.zeros(1, 9, 9)
    dot[0, 4, 4] = 25.0
    assert distortions.box_blur(dot, 2)[0, 2:7, 2:7].eq(1).all() and distortions.box_blur(dot, 2).sum() == 25
    assert torch.equal(distortions.box_blur(dot, 0), dot)
