"""The judge looks where the scene's things are, and is told what they are."""

import torch

from emoji_model import judge
from emoji_model.scenes import WORN, Scene, Thing

PICTURES = torch.rand(3, 3, 128, 128, generator=torch.Generator().manual_seed(0))


def test_a_single_thing_is_one_view_that_answers_everything() -> None:
    views, answers = judge.views_of(Scene((Thing(7, "blue"),), background="red", worn="crown"), PICTURES)
    assert views.shape == (3, 3, 64, 64)
    assert answers.concept.tolist() == [7] * 3
    assert answers.number.tolist() == [0] * 3
    assert answers.worn.tolist() == [list(WORN).index("crown")] * 3


def test_two_things_are_a_whole_and_two_places() -> None:
    views, answers = judge.views_of(Scene((Thing(7), Thing(8, "red"))), PICTURES)
    assert views.shape == (9, 3, 64, 64)
    assert torch.equal(views[3:6], PICTURES[:, :, 32:96, :64])
    assert torch.equal(views[6:9], PICTURES[:, :, 32:96, 64:])
    assert answers.concept.tolist() == [judge.NONE] * 3 + [7] * 3 + [8] * 3
    assert answers.number.tolist() == [1] * 3 + [judge.NONE] * 6


def test_a_judge_answers_every_question() -> None:
    torch.manual_seed(0)
    answers = judge.Judge(20)(judge.whole(PICTURES))
    assert [part.shape[1] for part in vars(answers).values()] == [20, 3, 4]
