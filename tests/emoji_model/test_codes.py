"""What a cell shows depends on the scene alone: which thing, which part of it, in which colour."""

import torch

from emoji_model.codes import DRESSED, HALVED, NONE, code
from emoji_model.scenes import COLOURS, WORN, Scene, Thing
from emoji_model.text import GRID

BLUE, GREEN = (list(COLOURS).index(word) for word in ("blue", "green"))


def grid(cells: torch.Tensor) -> torch.Tensor:
    """Codes as [row, column, number]."""
    return cells.view(GRID, GRID, 5)


def test_one_thing_fills_the_picture() -> None:
    cells = code(Scene((Thing(2, "blue"),), background="green", style=1))
    assert torch.equal(cells[:, 1], torch.arange(16))
    assert cells[:, [0, 2, 3, 4]].unique(dim=0).tolist() == [[2, BLUE, GREEN, 1]]


def test_two_things_stand_side_by_side_in_the_middle() -> None:
    cells = grid(code(Scene((Thing(1), Thing(3, "blue")))))
    assert cells[..., 0].tolist() == [[NONE] * 4, [1, 1, 3, 3], [1, 1, 3, 3], [NONE] * 4]
    assert cells[1:3, :2, 1].tolist() == cells[1:3, 2:, 1].tolist() == [[HALVED, HALVED + 1], [HALVED + 2, HALVED + 3]]
    assert cells[1:3, :, 2].tolist() == [[NONE, NONE, BLUE, BLUE]] * 2


def test_of_three_things_one_stands_on_two() -> None:
    cells = grid(code(Scene((Thing(0),), number=3)))
    shown = cells[..., 0] == 0
    assert shown.tolist() == [[False, True, True, False]] * 2 + [[True] * 4] * 2
    assert all((cells[..., 1][shown] == HALVED + part).sum() == 3 for part in range(4))


def test_a_dressed_creature_has_parts_of_its_own() -> None:
    whole = code(Scene((Thing(0),)))
    for number, worn in enumerate(WORN):
        dressed = code(Scene((Thing(0),), worn=worn))
        assert torch.equal(dressed[:, 1], DRESSED + 16 * number + torch.arange(16))
        assert torch.equal(dressed[:, 0], whole[:, 0])
