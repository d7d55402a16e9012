import torch

from emoji_model import coupling, render
from emoji_model.sources import Concept
from emoji_model.targets import apply_attributes


def test_drawings_keep_their_margin_and_place(concepts: list[Concept]) -> None:
    picture = render.rasterise(concepts[0].svg["noto"])
    assert picture.shape == (128, 128, 4)
    assert picture[64, 20].tolist() == [255, 0, 0, 255]  # the left half is red
    assert picture[64, 100, 3] == 0
    assert picture[64, 1, 3] == 0  # the margin


def test_attributes_tint_the_background_alone(concepts: list[Concept]) -> None:
    pictures = render.render_all(concepts[:1])[0, :1].expand(2, -1, -1, -1)
    values = torch.zeros(2, coupling.COUNT)
    values[1, coupling.TINT] = torch.tensor([2.0, 0.0])
    plain, warm = apply_attributes(pictures, values)
    assert torch.equal(plain[:, 64, 20], torch.tensor([1.0, 0.0, 0.0]))
    assert torch.equal(plain[:, 64, 20], warm[:, 64, 20])
    assert torch.allclose(plain[:, 5, 120], torch.full((3,), 0.97))
    assert warm[0, 5, 120] > warm[1, 5, 120] + 0.1
