"""What scorers learn to judge: concepts and scenes, each with captions and pictures that fit."""

import random

import torch

from emoji_model.captions import Captions
from emoji_model.scenes import Author, Scene, Thing, withheld
from emoji_model.subjects import Subjects


def make(captions: Captions, seed: int = 0) -> Subjects:
    """The subjects of four concepts, which are white, opaque squares, and 20 scenes."""
    drawings = torch.full((4, 3, 4, 128, 128), 255, dtype=torch.uint8)
    worn = {name: drawings[0] for name in ("crown", "sunglasses", "top hat")}
    return Subjects(Author(captions), drawings, worn, seed, composed=20)


def test_the_concepts_come_first_and_no_scene_is_withheld(captions: Captions) -> None:
    subjects = make(captions)
    assert len(subjects) == len(subjects.labels) == 24
    assert subjects.scenes[:4] == [Scene((Thing(number),)) for number in range(4)]
    assert subjects.labels[:4] == ["cat face", "dog face", "fire", "hot face"]
    assert not any(withheld(scene) or scene.style is not None for scene in subjects.scenes)
    assert make(captions).scenes == subjects.scenes != make(captions, seed=1).scenes


def test_a_scene_means_itself_and_its_things(captions: Captions) -> None:
    subjects, rng = make(captions), random.Random(0)
    for number in range(4, 24):
        caption = subjects.caption(number, rng)
        assert caption.meanings[0] == number
        assert set(caption.meanings[1:]) == {thing.concept for thing in subjects.scenes[number].things}
    assert subjects.caption(2, rng).meanings[0] == 2


def test_subjects_are_painted_on_the_backgrounds_that_they_leave_open(captions: Captions) -> None:
    subjects, grounds = make(captions), torch.tensor([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]])
    assert torch.equal(subjects.paint(0, grounds), torch.ones(2, 3, 3, 128, 128))
    pair = next(n for n, s in enumerate(subjects.scenes) if len(s.shown) == 2 and not s.background)
    painted = subjects.paint(pair, grounds)
    assert torch.equal(painted[..., 0, 0], grounds[:, None].expand(-1, 3, -1))
