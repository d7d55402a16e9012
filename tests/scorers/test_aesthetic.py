"""The aesthetic predictor against its authors' script: unit embedding of the picture, then five linear layers."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from transformers import CLIPModel

from pahi_rt.errors import PahiError
from pahi_rt.scorers import load_scorer
from pahi_rt.scorers.preprocess import Preprocess, cover

HEAD = "sac+logos+ava1-l14-linearMSE.pth"


class PublishedHead(nn.Module):
    """As in the authors' repository, dropouts included."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(width, 1024),
            nn.Dropout(0.2),
            nn.Linear(1024, 128),
            nn.Dropout(0.2),
            nn.Linear(128, 64),
            nn.Dropout(0.1),
            nn.Linear(64, 16),
            nn.Linear(16, 1),
        )


def save_head(path: Path, width: int) -> PublishedHead:
    torch.manual_seed(0)
    head = PublishedHead(width).eval()
    torch.save(head.state_dict(), path)
    return head


def rate(clip: Path, head: PublishedHead, images: Tensor) -> Tensor:
    model = CLIPModel.from_pretrained(clip).eval()
    size = model.config.vision_config.image_size
    with torch.no_grad():
        pixels = Preprocess(size, partial(cover, round_offset=round))(images)
        embedding = model.get_image_features(pixels).pooler_output
        return head.layers(embedding / embedding.norm(dim=-1, keepdim=True)).squeeze(-1)


@pytest.fixture
def folder(tmp_path: Path, tiny_clip: Path) -> Path:
    shutil.copytree(tiny_clip, tmp_path / "aesthetic" / "clip-vit-large-patch14")
    return tmp_path / "aesthetic"


def test_equals_the_authors_script(
    folder: Path, images: Tensor, prompts: list[str], check_gradients: Callable[..., Any]
) -> None:
    head = save_head(folder / HEAD, 16)
    scorer = load_scorer(f"aesthetic:{folder / HEAD}")
    scores = scorer.score(images, prompts)
    expected = rate(folder / "clip-vit-large-patch14", head, images)
    assert expected.std() > 1e-4  # or the comparison would see nothing
    assert torch.allclose(scores, expected, atol=1e-6)
    assert torch.equal(scores, scorer.score(images, ["another"] * 3))
    assert (scorer.name, scorer.unit, scorer.scale) == ("aesthetic", "rating, 1 to 10", 1.0)
    check_gradients(scorer, images, prompts)


def test_the_hubs_name_of_the_head_is_found_too(folder: Path) -> None:
    save_head(folder / "aesthetic-model.pth", 16)
    assert load_scorer(f"aesthetic:{folder}").name == "aesthetic"


def test_the_variant_with_activations_is_refused(folder: Path) -> None:
    save_head(folder / "ava+logos-l14-reluMSE.pth", 16)
    with pytest.raises(PahiError, match="with activations"):
        load_scorer(f"aesthetic:{folder / 'ava+logos-l14-reluMSE.pth'}")


def test_another_layout_is_refused(folder: Path) -> None:
    save_head(folder / HEAD, 768)
    with pytest.raises(PahiError, match=r"0.weight is \[1024, 768\] where \[1024, 16\] is expected"):
        load_scorer(f"aesthetic:{folder}")
    head = save_head(folder / HEAD, 16).state_dict()
    torch.save({**head, "clip.weight": torch.zeros(1)}, folder / HEAD)
    with pytest.raises(PahiError, match="1 weights that the scorer does not read: clip.weight"):
        load_scorer(f"aesthetic:{folder}")
    torch.save({"weight": torch.zeros(1, 768), "bias": torch.zeros(1)}, folder / HEAD)
    with pytest.raises(PahiError, match="no layers.0.weight"):
        load_scorer(f"aesthetic:{folder}")


@pytest.mark.usefixtures("no_hub")
def test_a_missing_clip_is_named(tmp_path: Path) -> None:
    save_head(tmp_path / HEAD, 16)
    with pytest.raises(PahiError, match="openai/clip-vit-large-patch14") as caught:
        load_scorer(f"aesthetic:{tmp_path}")
    assert f"into {tmp_path}" in caught.value.fix


@pytest.mark.slow
def test_the_full_architecture(
    tmp_path: Path, save_clip: Callable[..., Path], images: Tensor, check_gradients: Callable[..., Any]
) -> None:
    """CLIP ViT-L/14 and a head of 768 numbers."""
    vision = {"hidden_size": 1024, "intermediate_size": 4096, "num_hidden_layers": 24, "num_attention_heads": 16}
    text = {"hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12, "num_attention_heads": 12}
    text |= {"vocab_size": 49408, "eos_token_id": 2}
    clip = save_clip(tmp_path / "clip-vit-large-patch14", {**vision, "patch_size": 14}, text, 768)
    head = save_head(tmp_path / HEAD, 768)
    scorer = load_scorer(f"aesthetic:{tmp_path}")
    assert torch.allclose(scorer.score(images, ["a"] * 3), rate(clip, head, images), atol=1e-4)
    check_gradients(scorer, images[:1], ["a"])
