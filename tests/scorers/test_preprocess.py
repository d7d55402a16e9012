"""Preprocessing of tensors against what the scorers' authors do with Pillow, on photographs."""

from __future__ import annotations

import importlib.util
import math
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

from pahi_rt.errors import PahiError
from pahi_rt.scorers.preprocess import (
    CLIP_MEAN,
    CLIP_STD,
    Fit,
    Preprocess,
    arrange,
    check_inputs,
    contain,
    cover,
    resize,
)

PHOTOGRAPHS = ("astronaut.png", "chelsea.png", "coffee.png", "rocket.jpg")
"""Shipped by scikit-image: 512x512, 451x300, 600x400, 640x427, all in the public domain."""


@pytest.fixture(params=PHOTOGRAPHS)
def photograph(request: pytest.FixtureRequest) -> Image.Image:
    package = importlib.util.find_spec("skimage")
    if package is None or package.origin is None:
        pytest.skip("scikit-image brings the photographs")
    return Image.open(Path(package.origin).parent / "data" / request.param).convert("RGB")


def to_tensor(picture: Image.Image) -> Tensor:
    return torch.from_numpy(np.array(picture)).permute(2, 0, 1)[None] / 255


def normalise(pixels: Tensor) -> Tensor:
    return (pixels - torch.tensor(CLIP_MEAN).view(3, 1, 1)) / torch.tensor(CLIP_STD).view(3, 1, 1)


def as_transformers_does(picture: Image.Image, size: int) -> Tensor:
    processor = CLIPImageProcessorPil(size={"shortest_edge": size}, crop_size={"height": size, "width": size})
    return torch.as_tensor(processor(picture, return_tensors="pt").pixel_values)


def as_torchvision_does(picture: Image.Image, size: int) -> Tensor:
    """Resize(size, BICUBIC), CenterCrop(size), ToTensor, Normalize of torchvision, on Pillow pictures."""
    width, height = picture.size
    if width <= height:
        picture = picture.resize((size, int(size * height / width)), Image.Resampling.BICUBIC)
    else:
        picture = picture.resize((int(size * width / height), size), Image.Resampling.BICUBIC)
    left, top = round((picture.width - size) / 2.0), round((picture.height - size) / 2.0)
    return normalise(to_tensor(picture.crop((left, top, left + size, top + size))))


def as_hpsv2_does(picture: Image.Image, size: int) -> Tensor:
    """ToTensor, ResizeMaxSize(size, fill=0), Normalize: bicubic on floats, which Pillow does in its mode F."""
    ratio = size / max(picture.size)
    width, height = round(picture.width * ratio), round(picture.height * ratio)
    square = np.zeros((3, size, size), dtype=np.float32)
    left, top = (size - width) // 2, (size - height) // 2
    for channel, band in enumerate(picture.split()):
        resized = band.convert("F").resize((width, height), Image.Resampling.BICUBIC)
        square[channel, top : top + height, left : left + width] = np.asarray(resized) / 255
    return normalise(torch.from_numpy(square)[None])


@pytest.mark.parametrize("size", [224, 97, 700])  # the last enlarges
@pytest.mark.parametrize(
    ("ours", "theirs", "tolerance"),
    [
        (cover, as_transformers_does, 2e-2),
        (partial(cover, round_offset=round), as_torchvision_does, 2e-2),
        (contain, as_hpsv2_does, 1e-3),
    ],
    ids=["transformers", "torchvision", "hpsv2"],
)
def test_equals_the_authors_path_on_photographs(
    photograph: Image.Image,
    size: int,
    ours: Fit,
    theirs: Callable[[Image.Image, int], Tensor],
    tolerance: float,
) -> None:
    expected = theirs(photograph, size)
    pixels = Preprocess(size, ours)(to_tensor(photograph))
    assert pixels.shape == expected.shape == (1, 3, size, size)
    assert expected.std() > 0.3  # or the comparison would see nothing
    assert (pixels - expected).abs().max() < tolerance


def test_an_odd_margin_is_cut_as_each_library_cuts_it() -> None:
    images = torch.arange(7.0).expand(1, 3, 4, 7) / 7  # three columns too many
    left = {
        offset: round(arrange(images, cover(4, 7, 4, offset), 4)[0, 0, 0, 0].item() * 7)
        for offset in (math.floor, round)
    }
    assert left == {math.floor: 1, round: 2}


def test_resizing_to_the_same_size_changes_nothing(images: Tensor) -> None:
    assert torch.allclose(resize(images, 40, 52), images, atol=1e-6)


def test_gradients_reach_the_pictures_in_half_precision_too(images: Tensor) -> None:
    for fit in (cover, contain):
        half = images.bfloat16().requires_grad_()
        pixels = Preprocess(32, fit)(half)
        assert pixels.dtype == torch.float32
        pixels.square().sum().backward()
        assert half.grad is not None
        assert half.grad.isfinite().all() and half.grad.abs().sum() > 0


@pytest.mark.parametrize(
    ("images", "prompts", "message"),
    [
        (torch.zeros(3, 8, 8), ["a"], r"shape \[3, 8, 8\]"),
        (torch.zeros(1, 4, 8, 8), ["a"], r"shape \[1, 4, 8, 8\]"),
        (torch.zeros(0, 3, 8, 8), [], r"shape \[0, 3, 8, 8\]"),
        (torch.zeros(1, 3, 8, 8, dtype=torch.uint8), ["a"], "uint8"),
        (torch.zeros(2, 3, 8, 8), ["a"], "1 prompts for 2 pictures"),
        (torch.zeros(1, 3, 8, 8), "a", "one string for 1 pictures"),
    ],
)
def test_what_is_no_batch_of_pictures_is_refused(images: Tensor, prompts: list[str], message: str) -> None:
    with pytest.raises(PahiError, match=message):
        check_inputs(images, prompts)
