"""ImageReward against a plain forward of the published architecture, from the published checkpoint's names."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import Tensor

from pahi_rt.errors import PahiError
from pahi_rt.scorers import load_scorer
from pahi_rt.scorers.image_reward import ImageRewardScorer, load_image_reward
from pahi_rt.scorers.preprocess import Preprocess, cover

Weights = dict[str, Tensor]
WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "red", "cat", "house", "sea", "the", "by", "at", "##s", ","]
TINY = {"vision": (128, 2), "text": (64, 2), "patch": 8, "image": 32, "positions": 40, "vocab": 40, "projection": 12}
"""Towers: width, layers. Every attention head is 64 wide."""
FULL = {
    "vision": (1024, 24),
    "text": (768, 12),
    "patch": 16,
    "image": 224,
    "positions": 512,
    "vocab": 30524,
    "projection": 256,
}


def linear_shapes(name: str, inputs: int, outputs: int) -> dict[str, tuple[int, ...]]:
    return {f"{name}.weight": (outputs, inputs), f"{name}.bias": (outputs,)}


def norm_shapes(name: str, width: int) -> dict[str, tuple[int, ...]]:
    return {f"{name}.weight": (width,), f"{name}.bias": (width,)}


def vision_shapes(size: dict[str, Any]) -> dict[str, tuple[int, ...]]:
    (width, layers), patch, p = size["vision"], size["patch"], "blip.visual_encoder"
    shapes: dict[str, tuple[int, ...]] = {
        f"{p}.cls_token": (1, 1, width),
        f"{p}.pos_embed": (1, (size["image"] // patch) ** 2 + 1, width),
        f"{p}.patch_embed.proj.weight": (width, 3, patch, patch),
        f"{p}.patch_embed.proj.bias": (width,),
    }
    for layer in range(layers):
        block = f"{p}.blocks.{layer}"
        shapes |= norm_shapes(f"{block}.norm1", width) | norm_shapes(f"{block}.norm2", width)
        shapes |= linear_shapes(f"{block}.attn.qkv", width, 3 * width)
        shapes |= linear_shapes(f"{block}.attn.proj", width, width)
        shapes |= linear_shapes(f"{block}.mlp.fc1", width, 4 * width)
        shapes |= linear_shapes(f"{block}.mlp.fc2", 4 * width, width)
    return shapes | norm_shapes(f"{p}.norm", width)


def text_shapes(size: dict[str, Any]) -> dict[str, tuple[int, ...]]:
    (width, layers), p = size["text"], "blip.text_encoder"
    shapes: dict[str, tuple[int, ...]] = {
        f"{p}.embeddings.word_embeddings.weight": (size["vocab"], width),
        f"{p}.embeddings.position_embeddings.weight": (size["positions"], width),
    }
    shapes |= norm_shapes(f"{p}.embeddings.LayerNorm", width)
    for layer in range(layers):
        block = f"{p}.encoder.layer.{layer}"
        for attention, source in (("attention", width), ("crossattention", size["vision"][0])):
            shapes |= linear_shapes(f"{block}.{attention}.self.query", width, width)
            shapes |= linear_shapes(f"{block}.{attention}.self.key", source, width)
            shapes |= linear_shapes(f"{block}.{attention}.self.value", source, width)
            shapes |= linear_shapes(f"{block}.{attention}.output.dense", width, width)
            shapes |= norm_shapes(f"{block}.{attention}.output.LayerNorm", width)
        shapes |= linear_shapes(f"{block}.intermediate.dense", width, 4 * width)
        shapes |= linear_shapes(f"{block}.output.dense", 4 * width, width)
        shapes |= norm_shapes(f"{block}.output.LayerNorm", width)
    return shapes


def checkpoint_shapes(size: dict[str, Any]) -> dict[str, tuple[int, ...]]:
    """Names and shapes of ImageReward.pt, at the given size; integers aside."""
    shapes = vision_shapes(size) | text_shapes(size)
    shapes |= linear_shapes("blip.vision_proj", size["vision"][0], size["projection"])
    shapes |= linear_shapes("blip.text_proj", size["text"][0], size["projection"])
    widths = (size["text"][0], 1024, 128, 64, 16, 1)
    for number, inputs, outputs in zip((0, 2, 4, 6, 7), widths, widths[1:], strict=False):
        shapes |= linear_shapes(f"mlp.layers.{number}", inputs, outputs)
    return shapes


def draw(size: dict[str, Any], random_weights: Callable[..., Weights]) -> Weights:
    positions = torch.arange(size["positions"])[None]
    return {**random_weights(checkpoint_shapes(size)), "blip.text_encoder.embeddings.position_ids": positions}


def linear(weights: Weights, name: str, x: Tensor) -> Tensor:
    return x @ weights[f"{name}.weight"].T + weights[f"{name}.bias"]


def norm(weights: Weights, name: str, x: Tensor, eps: float) -> Tensor:
    return F.layer_norm(x, x.shape[-1:], weights[f"{name}.weight"], weights[f"{name}.bias"], eps)


def attend(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None) -> Tensor:
    """[B, T, D], [B, S, D], [B, S, D] -> [B, T, D], in heads of 64; `mask` [B, S] is 1 where S may be seen."""
    batch, length, width = q.shape
    q, k, v = (x.view(batch, -1, width // 64, 64).transpose(1, 2) for x in (q, k, v))
    logits = q @ k.transpose(-1, -2) / math.sqrt(64)
    if mask is not None:
        logits = logits + (1.0 - mask[:, None, None, :].float()) * -10000.0
    return (logits.softmax(dim=-1) @ v).transpose(1, 2).reshape(batch, length, width)


def encode_image(weights: Weights, size: dict[str, Any], pixels: Tensor) -> Tensor:
    p = "blip.visual_encoder"
    kernel, bias = weights[f"{p}.patch_embed.proj.weight"], weights[f"{p}.patch_embed.proj.bias"]
    patches = F.conv2d(pixels, kernel, bias, stride=size["patch"]).flatten(2).transpose(1, 2)
    x = torch.cat([weights[f"{p}.cls_token"].expand(len(pixels), -1, -1), patches], dim=1) + weights[f"{p}.pos_embed"]
    for layer in range(size["vision"][1]):
        block = f"{p}.blocks.{layer}"
        q, k, v = linear(weights, f"{block}.attn.qkv", norm(weights, f"{block}.norm1", x, 1e-6)).chunk(3, dim=-1)
        x = x + linear(weights, f"{block}.attn.proj", attend(q, k, v))
        inner = F.gelu(linear(weights, f"{block}.mlp.fc1", norm(weights, f"{block}.norm2", x, 1e-6)))
        x = x + linear(weights, f"{block}.mlp.fc2", inner)
    return norm(weights, f"{p}.norm", x, 1e-6)


def encode_text(weights: Weights, size: dict[str, Any], ids: Tensor, mask: Tensor, patches: Tensor) -> Tensor:
    p = "blip.text_encoder"
    words = weights[f"{p}.embeddings.word_embeddings.weight"][ids]
    positions = weights[f"{p}.embeddings.position_embeddings.weight"][: ids.shape[1]]
    x = norm(weights, f"{p}.embeddings.LayerNorm", words + positions, 1e-12)
    for layer in range(size["text"][1]):
        block = f"{p}.encoder.layer.{layer}"
        for name, source, seen in (("attention", None, mask), ("crossattention", patches, None)):
            own, output = f"{block}.{name}.self", f"{block}.{name}.output"
            source = x if source is None else source
            k, v = linear(weights, f"{own}.key", source), linear(weights, f"{own}.value", source)
            mixed = attend(linear(weights, f"{own}.query", x), k, v, seen)
            x = norm(weights, f"{output}.LayerNorm", x + linear(weights, f"{output}.dense", mixed), 1e-12)
        inner = F.gelu(linear(weights, f"{block}.intermediate.dense", x))
        x = norm(weights, f"{block}.output.LayerNorm", x + linear(weights, f"{block}.output.dense", inner), 1e-12)
    return x


def reward(weights: Weights, size: dict[str, Any], pixels: Tensor, ids: Tensor, mask: Tensor) -> Tensor:
    x = encode_text(weights, size, ids, mask, encode_image(weights, size, pixels))[:, 0]
    for number in (0, 2, 4, 6, 7):
        x = linear(weights, f"mlp.layers.{number}", x)
    return (x.squeeze(-1) - 0.16717362830052426) / 1.0333394966054072


def write_vocabulary(folder: Path) -> None:
    folder.mkdir(exist_ok=True)
    (folder / "vocab.txt").write_text("\n".join(WORDS) + "\n")


@pytest.fixture(params=[pytest.param(TINY, id="tiny"), pytest.param(FULL, id="full", marks=pytest.mark.slow)])
def size(request: pytest.FixtureRequest) -> dict[str, Any]:
    return request.param


@pytest.fixture
def weights(random_weights: Callable[..., Weights]) -> Weights:
    return draw(TINY, random_weights)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_vocabulary(tmp_path / "reward")
    return tmp_path / "reward"


def test_equals_the_published_architecture(
    folder: Path, size: dict[str, Any], random_weights: Callable[..., Weights], images: Tensor
) -> None:
    weights = draw(size, random_weights)
    torch.save(weights, folder / "ImageReward.pt")
    scorer = load_image_reward(str(folder))
    prompts = ["a red cat", "the house by the sea, " * 9, ""]
    ids, mask = scorer.tokenize(prompts)
    with torch.no_grad():
        pixels = Preprocess(size["image"], partial(cover, round_offset=round))(images)
        expected = reward(weights, size, pixels, ids, mask)
    scores = scorer.score(images, prompts)
    assert expected.std() > 1e-2  # or the comparison would see nothing
    assert torch.allclose(scores, expected, atol=1e-4 if size is TINY else 1e-2)
    # Too small to be seen in the scores of random weights.
    assert (scorer.vision.config.layer_norm_eps, scorer.text.config.layer_norm_eps) == (1e-6, 1e-12)
    left_out = sum(v.numel() for name, v in weights.items() if "_proj." in name or "position_ids" in name)
    held = sum(parameter.numel() for parameter in scorer.parameters())
    assert held == sum(value.numel() for value in weights.values()) - left_out
    assert (scorer.name, scorer.unit, scorer.scale) == ("imagereward", "standardised reward", 1.0333394966054072)


def test_gradients_reach_the_pictures(
    folder: Path, weights: Weights, images: Tensor, prompts: list[str], check_gradients: Callable[..., Any]
) -> None:
    save_file(weights, folder / "ImageReward.safetensors")
    check_gradients(load_scorer(f"imagereward:{folder}"), images, prompts)


def test_prompts_are_35_tokens_of_bert(folder: Path, weights: Weights) -> None:
    save_file(weights, folder / "ImageReward.safetensors")
    scorer = load_image_reward(str(folder))
    assert isinstance(scorer, ImageRewardScorer)
    ids, mask = scorer.tokenize(["A red cats", "sea " * 99])
    names = [[WORDS[i] for i in row] for row in ids.tolist()]
    assert names[0] == ["[CLS]", "a", "red", "cat", "##s", "[SEP]"] + ["[PAD]"] * 29
    assert names[1] == ["[CLS]"] + ["sea"] * 33 + ["[SEP]"]
    assert mask.sum(dim=1).tolist() == [6, 35]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"blip.visual_encoder.pos_embed": None}, "no blip.visual_encoder.pos_embed"),
        ({"blip.text_encoder.encoder.layer.0.crossattention.self.key.weight": None}, "no blip.text_encoder.encoder"),
        ({"mlp.layers.0.weight": None}, "no mlp.layers.0.weight"),
        ({"mlp.layers.7.weight": None}, "7.weight is missing"),
        ({"blip.visual_encoder.norm.bias": None}, "lacks 1 weights of a BlipVisionModel"),
        (
            {"blip.visual_encoder.more": torch.ones(1)},
            "has 1 weights that a BlipVisionModel of its settings does not read: more",
        ),
        (
            {"blip.text_encoder.pooler.dense.bias": torch.ones(64)},
            "has 1 weights that a BlipTextModel of its settings does not read",
        ),
        ({"blip.text_decoder.bias": torch.ones(1)}, "has 1 weights that the scorer does not read: blip.text_decoder"),
        ({"blip.visual_encoder.patch_embed.proj.weight": torch.zeros(100, 3, 8, 8)}, "not a multiple of 64"),
    ],
)
def test_another_layout_is_refused(folder: Path, weights: Weights, change: Weights, message: str) -> None:
    changed = {name: value for name, value in {**weights, **change}.items() if value is not None}
    save_file(changed, folder / "ImageReward.safetensors")
    with pytest.raises(PahiError, match=message) as caught:
        load_scorer(f"imagereward:{folder}")
    assert "ImageReward.pt" in caught.value.fix


def test_weights_that_are_no_numbers_are_refused(folder: Path, weights: Weights) -> None:
    save_file({**weights, "mlp.layers.7.bias": torch.full((1,), math.nan)}, folder / "ImageReward.safetensors")
    with pytest.raises(PahiError, match="7.bias in .* holds NaN"):
        load_scorer(f"imagereward:{folder}")


@pytest.mark.usefixtures("no_hub")
def test_a_missing_tokenizer_is_asked_for(tmp_path: Path, weights: Weights) -> None:
    save_file(weights, tmp_path / "ImageReward.safetensors")
    with pytest.raises(PahiError, match="google-bert/bert-base-uncased") as caught:
        load_scorer(f"imagereward:{tmp_path}")
    assert f"into {tmp_path}" in caught.value.fix
