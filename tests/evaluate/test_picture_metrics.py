"""Sharpness and diversity: what they must see, what they must not, and known values."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F
from transformers import CLIPConfig, CLIPModel

from emoji_model.coupling import COUNT, TINT, background
from emoji_model.distortions import box_blur
from emoji_model.render import composite
from pahi_rt.errors import PahiError
from pahi_rt.evaluate.picture_metrics import RandomFeatures, edge_energy, load_encoder, pairwise_distance, sharpness
from pahi_rt.scorers.preprocess import CLIP_MEAN, CLIP_STD


@pytest.fixture(scope="module")
def encoder() -> RandomFeatures:
    return RandomFeatures()


def distance(encoder: RandomFeatures, one: Tensor, other: Tensor) -> float:
    return float((encoder(one[None]) - encoder(other[None])).norm())


def disc(
    x: float, y: float, radius: float = 0.2, colour: tuple[float, ...] = (0.9, 0.2, 0.2), size: int = 64
) -> Tensor:
    """A disc on white [3, size, size], its edge a pixel wide."""
    places = (torch.arange(size) + 0.5) / size
    inside = ((radius - ((places - x) ** 2 + (places[:, None] - y) ** 2).sqrt()) * size).clamp(-0.5, 0.5) + 0.5
    return 1 + inside * (torch.tensor(colour).view(3, 1, 1) - 1)


def test_edge_energy_of_a_known_picture() -> None:
    grey = torch.zeros(1, 3, 3, 4)
    grey[..., 1, 1] = 1.0
    # The two Laplacians inside are -4 and 1.
    assert float(edge_energy(grey)) == pytest.approx(12.5)


def test_edge_energy_is_of_the_luminance() -> None:
    noise = torch.rand(1, 1, 16, 16, generator=torch.Generator().manual_seed(0))
    pictures = torch.stack([F.pad(noise[0], (0, 0, 0, 0, c, 2 - c)) for c in range(3)])
    whole = float(edge_energy(noise.expand(1, 3, -1, -1)))
    assert (edge_energy(pictures) / whole).tolist() == pytest.approx([0.299**2, 0.587**2, 0.114**2], rel=1e-4)


def test_sharpness_of_known_edges() -> None:
    """A step from one column to the next, and the same over two and over four."""
    places = torch.arange(16.0)
    rows = torch.stack([((places - 7) / width).clamp(0, 1) for width in (1, 2, 4)])
    pictures = rows[:, None, None].expand(-1, 3, 16, -1)
    # Of the 16 rows, 14 have a Laplacian: 1 and 1 by a difference of 1, and half and a quarter of it.
    expected = torch.tensor([2.0, 1.0, 0.5]) * 14 / 16
    assert sharpness(pictures).tolist() == pytest.approx(expected.tolist())


def drawings() -> Tensor:
    """Discs with a darker face and an eye, RGBA uint8 [6, 4, 128, 128], anti-aliased; one is as pale as a tint."""
    colours = [
        (0.9, 0.2, 0.2),
        (1.0, 0.8, 0.2),
        (0.2, 0.5, 0.9),
        (0.95, 0.95, 0.97),
        (0.1, 0.1, 0.1),
        (0.85, 0.8, 0.97),
    ]
    pictures = []
    for index, colour in enumerate(colours):
        x, radius, main = 0.4 + 0.04 * index, 0.25 + 0.02 * index, torch.tensor(colour)
        paint = main.view(3, 1, 1).expand(3, 128, 128)
        for darker, size in ((0.6 * main, radius - 0.06), (torch.tensor([0.2, 0.1, 0.1]), 0.05)):
            paint = paint + inside(x, size) * (darker.view(3, 1, 1) - paint)
        pictures.append(torch.cat([paint, inside(x, radius)]))
    return (255 * torch.stack(pictures)).round().byte()


def inside(x: float, radius: float) -> Tensor:
    """How much of each pixel a disc covers [1, 128, 128]."""
    return 1 - disc(x, 0.5, radius, (0.0, 0.0, 0.0), 128)[:1]


TINTS = [(0.0, 0.0), (3.0, 0.0), (-3.0, 0.0), (0.0, 3.0), (0.0, -3.0), (3.0, 3.0), (-3.0, -3.0), (3.0, -3.0)]
"""To the ends of what the emoji generator's noise asks for."""


def tinted(tint: tuple[float, float]) -> Tensor:
    values = torch.zeros(6, COUNT)
    values[:, TINT] = torch.tensor(tint)
    return composite(drawings(), background(values))


@pytest.mark.parametrize("radius", [0, 1])
def test_a_tint_leaves_sharpness_alone(radius: int) -> None:
    """Of clear drawings as of soft ones, and of every one of them."""
    first, *others = (sharpness(box_blur(tinted(tint), radius)) for tint in TINTS)
    assert all(other.tolist() == pytest.approx(first.tolist(), rel=0.01) for other in others)


def test_a_tint_does_not_leave_the_edges_energy_alone() -> None:
    """Which is why it is no measure of sharpness between pictures of different tint."""
    first, *others = (float(edge_energy(tinted(tint)).mean()) for tint in TINTS)
    assert min(others) < 0.9 * first


def test_contrast_and_brightness_leave_sharpness_alone() -> None:
    picture = disc(0.5, 0.5)[None]
    assert float(sharpness(0.1 * picture + 0.4)) == pytest.approx(float(sharpness(picture)), rel=1e-3)


@pytest.mark.parametrize(("share", "most"), [(0.25, 0.95), (0.5, 0.9), (1.0, 0.75)])
def test_blur_lowers_sharpness(share: float, most: float) -> None:
    """Means of 3x3 pixels, mixed in."""
    pictures = tinted((0.0, 0.0))
    blurred = torch.lerp(pictures, box_blur(pictures, 1), share)
    assert (sharpness(blurred) < most * sharpness(pictures)).all()


def test_a_picture_without_edges_is_not_sharp() -> None:
    flat = torch.full((1, 3, 8, 8), 0.3)
    assert float(sharpness(flat)) == float(sharpness(flat + 1e-7 * torch.rand(flat.shape))) == 0
    assert float(edge_energy(flat)) == pytest.approx(0, abs=1e-12)


def test_mean_distance_over_pairs() -> None:
    features = torch.tensor([[[0.0, 0.0], [1.0, 0.0]], [[3.0, 4.0], [1.0, 0.0]], [[0.0, 0.0], [1.0, 2.0]]])
    assert pairwise_distance(features).tolist() == pytest.approx([10 / 3, 4 / 3])


def test_random_features_are_the_same_everywhere(encoder: RandomFeatures) -> None:
    assert torch.equal(encoder(disc(0.5, 0.5)[None]), RandomFeatures()(disc(0.5, 0.5)[None]))
    assert encoder.filters.mean((2, 3)).abs().max() < 1e-6
    assert torch.allclose(encoder.filters.flatten(1).norm(dim=1), torch.full((32,), math.sqrt(2)))
    # Recorded: philox-boxmuller-1 decides them, on every machine.
    assert encoder.filters[0, 0, 0].tolist() == pytest.approx(FIRST_FILTER, abs=2e-6)


FIRST_FILTER = [0.155070, -0.201300, -0.144183, -0.118970, -0.057877]


def test_distances_grow_with_what_people_would_call_different(encoder: RandomFeatures) -> None:
    plain = disc(0.5, 0.5)
    pixel = distance(encoder, plain, disc(0.5 + 1 / 64, 0.5))
    place = distance(encoder, plain, disc(0.3, 0.5))
    colour = distance(encoder, plain, disc(0.5, 0.5, colour=(0.2, 0.2, 0.9)))
    shape = distance(encoder, plain, disc(0.5, 0.5, radius=0.35))
    assert distance(encoder, plain, plain) == 0
    assert pixel < 0.4 * min(place, colour, shape)


def test_a_shift_by_a_pixel_counts_less_than_in_pixels(encoder: RandomFeatures) -> None:
    plain, shifted, elsewhere = disc(0.5, 0.5), disc(0.5 + 1 / 64, 0.5), disc(0.25, 0.25)
    pixels = float((plain - shifted).norm() / (plain - elsewhere).norm())
    assert distance(encoder, plain, shifted) / distance(encoder, plain, elsewhere) < 0.8 * pixels


def test_every_scale_weighs_alike_on_natural_spectra(encoder: RandomFeatures) -> None:
    frequencies = torch.fft.fftfreq(64)[:, None].hypot(torch.fft.rfftfreq(64)).clamp_min(1 / 64)
    noise = torch.randn(8, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    pictures = torch.fft.irfft2(torch.fft.rfft2(noise) / frequencies)
    features = encoder(0.5 + 0.1 * pictures / pictures.std())
    sizes = [192, *(32 * (size // 4) ** 2 for size in encoder.sizes)]
    energies = [float(part.var(0).sum()) for part in features.split(sizes, 1)[1:]]
    assert max(energies) / min(energies) < 8


@pytest.mark.parametrize("size", [(32, 32), (128, 128), (96, 160)])
def test_any_size_of_picture_has_as_many_features(encoder: RandomFeatures, size: tuple[int, int]) -> None:
    features = encoder(torch.rand(2, 3, *size, generator=torch.Generator().manual_seed(0)))
    assert features.shape == (2, 192 + 32 * (256 + 64 + 16 + 4))
    assert features.isfinite().all()


def test_size_hardly_matters(encoder: RandomFeatures) -> None:
    small = distance(encoder, disc(0.5, 0.5), disc(0.3, 0.4))
    large = distance(encoder, disc(0.5, 0.5, size=256), disc(0.3, 0.4, size=256))
    assert math.isclose(small, large, rel_tol=0.05)


def test_the_default_encoder_needs_no_file() -> None:
    assert isinstance(load_encoder(), RandomFeatures)


def test_an_encoder_from_a_folder_is_its_picture_tower(tmp_path: Path) -> None:
    sizes = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    vision, text = {**sizes, "image_size": 16, "patch_size": 8}, {**sizes, "vocab_size": 50}
    model = CLIPModel(CLIPConfig(text_config=text, vision_config=vision, projection_dim=12)).eval()
    model.save_pretrained(tmp_path)
    loaded = load_encoder(str(tmp_path))
    pictures = torch.rand(3, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (CLIP_MEAN, CLIP_STD))
    features = model.visual_projection(model.vision_model((pictures - mean) / std).pooler_output)
    assert torch.allclose(loaded(pictures), F.normalize(features, dim=-1), atol=1e-5)
    assert loaded.name == f"CLIP of {tmp_path}"
    assert not any(parameter.requires_grad for parameter in loaded.parameters())


def test_an_encoder_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(PahiError, match="there is nothing at"):
        load_encoder(str(tmp_path / "none"))
