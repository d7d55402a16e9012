"""What a cell shows depends on the scene alone: which thing, which part of it, in which colour."""

import pytest
import torch

from emoji_model.captions import Caption, Captions
from emoji_model.codes import DRESSED, HALVED, NONE, Codes
from emoji_model.scenes import COLOURS, WORN, Scene, Thing
from emoji_model.text import GRID

BLUE, GREEN = (list(COLOURS).index(word) for word in ("blue", "green"))


@pytest.fixture
def codes(captions: Captions) -> Codes:
    return Codes(captions)


def grid(code: torch.Tensor) -> torch.Tensor:
    """Codes as [row, column, number]."""
    return code.view(GRID, GRID, 5)


def test_one_thing_fills_the_picture(codes: Codes) -> None:
    code = codes.of_scene(Scene((Thing(2, "blue"),), background="green", style=1))
    assert torch.equal(code[:, 1], torch.arange(16))
    assert code[:, [0, 2, 3, 4]].unique(dim=0).tolist() == [[2, BLUE, GREEN, 1]]


def test_two_things_stand_side_by_side_in_the_middle(codes: Codes) -> None:
    code = grid(codes.of_scene(Scene((Thing(1), Thing(3, "blue")))))
    assert code[..., 0].tolist() == [[NONE] * 4, [1, 1, 3, 3], [1, 1, 3, 3], [NONE] * 4]
    assert code[1:3, :2, 1].tolist() == code[1:3, 2:, 1].tolist() == [[HALVED, HALVED + 1], [HALVED + 2, HALVED + 3]]
    assert code[1:3, :, 2].tolist() == [[NONE, NONE, BLUE, BLUE]] * 2


def test_of_three_things_one_stands_on_two(codes: Codes) -> None:
    code = grid(codes.of_scene(Scene((Thing(0),), number=3)))
    shown = code[..., 0] == 0
    assert shown.tolist() == [[False, True, True, False]] * 2 + [[True] * 4] * 2
    assert all((code[..., 1][shown] == HALVED + part).sum() == 3 for part in range(4))


def test_a_dressed_creature_has_parts_of_its_own(codes: Codes) -> None:
    whole = codes.of_scene(Scene((Thing(0),)))
    for number, worn in enumerate(WORN):
        dressed = codes.of_scene(Scene((Thing(0),), worn=worn))
        assert torch.equal(dressed[:, 1], DRESSED + 16 * number + torch.arange(16))
        assert torch.equal(dressed[:, 0], whole[:, 0])


def test_an_ambiguous_phrase_is_a_thing_of_its_own(captions: Captions, codes: Codes) -> None:
    meanings = captions.meanings["hot"]
    assert len(meanings) == 2
    known, ambiguous = (codes.of_caption(Caption("hot", m), 2) for m in ((meanings[0],), meanings))
    assert known[0, 0] == meanings[0]
    assert len(captions.concepts) <= ambiguous[0, 0] < codes.sizes[0]
    assert torch.equal(known[:, 1:], ambiguous[:, 1:])
