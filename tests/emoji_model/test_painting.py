"""Painted scenes: colours, places and backgrounds are where and what the scene says."""

import pytest
import torch

from emoji_model.painting import colour_of, dress, paint, premultiplied, recolour
from emoji_model.render import SIZE
from emoji_model.scenes import Scene, Thing

WHITE = torch.ones(3)


@pytest.fixture
def drawings() -> torch.Tensor:
    """Uint8 [2, 1, 4, SIZE, SIZE]: a gray square and a red one, with a transparent border of a quarter."""
    drawn = torch.zeros(2, 1, 4, SIZE, SIZE, dtype=torch.uint8)
    inner = slice(SIZE // 4, -SIZE // 4)
    for row, colour in zip(drawn, ((128, 128, 128), (255, 0, 0)), strict=True):
        row[0, :3, inner, inner] = torch.tensor(colour, dtype=torch.uint8)[:, None, None]
        row[0, 3, inner, inner] = 255
    return drawn


def colour_at(picture: torch.Tensor, x: int, y: int) -> list[int]:
    return (picture[0, :, y, x] * 255).round().int().tolist()


def test_a_named_background_replaces_the_open_one(drawings: torch.Tensor) -> None:
    named = paint(Scene((Thing(0),), background="blue"), drawings, {}, WHITE)
    assert colour_at(named, 2, 2) == [50, 115, 225]
    assert colour_at(paint(Scene((Thing(0),)), drawings, {}, WHITE), 2, 2) == [255, 255, 255]
    assert colour_at(named, 64, 64) == [128, 128, 128]


def test_two_things_stand_side_by_side_in_order(drawings: torch.Tensor) -> None:
    picture = paint(Scene((Thing(0), Thing(1, "green"))), drawings, {}, WHITE)
    assert colour_at(picture, 32, 64) == [128, 128, 128]
    assert colour_at(picture, 96, 64) == [65, 165, 70]
    assert colour_at(picture, 32, 8) == [255, 255, 255]


def test_three_of_a_kind(drawings: torch.Tensor) -> None:
    picture = paint(Scene((Thing(1),), number=3), drawings, {}, WHITE)
    assert [colour_at(picture, x, y) for x, y in ((64, 32), (32, 96), (96, 96))] == [[255, 0, 0]] * 3


def test_recolouring_keeps_light_and_shade() -> None:
    picture = torch.full((1, 4, SIZE, SIZE), 255, dtype=torch.uint8)
    picture[0, :3, :64] = 60
    picture[0, :3, 64:] = 120
    tinted = recolour(premultiplied(picture), colour_of("blue"))
    dark, light = tinted[0, :3, 0, 0], tinted[0, :3, -1, 0]
    assert (dark < light).all()
    assert dark.argmax() == light.argmax() == 2


def test_a_hat_sits_on_the_head(drawings: torch.Tensor) -> None:
    hat = torch.zeros(1, 4, SIZE, SIZE, dtype=torch.uint8)
    hat[:, :, 48:80] = 255
    head, worn = dress(premultiplied(drawings[1]), premultiplied(hat), "top hat")
    rows = [(layer[0, 3, :, 64] > 0.5).nonzero().flatten() for layer in (head, worn)]
    assert rows[1][-1] - rows[0][0] == 6
    assert rows[1][0] >= 0
    # A hat that is too high for the picture is pushed down, not wrapped round.
    tall = torch.zeros(1, 4, SIZE, SIZE, dtype=torch.uint8)
    tall[:, :] = 255
    assert (dress(premultiplied(drawings[1]), premultiplied(tall), "crown")[1][0, 3, -8:, 64] == 0).all()
