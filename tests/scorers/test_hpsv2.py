"""HPSv2 against open_clip's forward, written out here from its published layout."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import Tensor

from pahi_rt.errors import PahiError
from pahi_rt.models.random_models import random_tokenizer
from pahi_rt.scorers import load_scorer
from pahi_rt.scorers.clip import ClipScorer, load_hpsv2
from pahi_rt.scorers.preprocess import Preprocess, contain

pytest.importorskip("ftfy", reason="HPSv2 needs ftfy, a part of the extra train")

Weights = dict[str, Tensor]
TINY: dict[str, Any] = {
    "vision": (160, 2, 2),
    "text": (128, 2, 2),
    "patch": 8,
    "image": 32,
    "embed": 24,
    "vocab": 600,
    "tokens": 24,
}
"""Towers: width, layers, heads."""
VIT_H_14 = {
    "vision": (1280, 32, 16),
    "text": (1024, 24, 16),
    "patch": 14,
    "image": 224,
    "embed": 1024,
    "vocab": 49408,
    "tokens": 77,
}


def block_shapes(prefix: str, width: int, layers: int) -> dict[str, tuple[int, ...]]:
    inside = {
        "attn.in_proj_weight": (3 * width, width),
        "attn.in_proj_bias": (3 * width,),
        "attn.out_proj.weight": (width, width),
        "attn.out_proj.bias": (width,),
        "mlp.c_fc.weight": (4 * width, width),
        "mlp.c_fc.bias": (4 * width,),
        "mlp.c_proj.weight": (width, 4 * width),
        "mlp.c_proj.bias": (width,),
    }
    inside |= {f"ln_{i}.{kind}": (width,) for i in (1, 2) for kind in ("weight", "bias")}
    return {f"{prefix}.{layer}.{name}": shape for layer in range(layers) for name, shape in inside.items()}


def checkpoint_shapes(size: dict[str, Any]) -> dict[str, tuple[int, ...]]:
    """Names and shapes of HPS_v2.1_compressed.pt, at the given size."""
    (width, layers, _), (text_width, text_layers, _) = size["vision"], size["text"]
    shapes: dict[str, tuple[int, ...]] = {
        "positional_embedding": (size["tokens"], text_width),
        "text_projection": (text_width, size["embed"]),
        "visual.class_embedding": (width,),
        "visual.positional_embedding": ((size["image"] // size["patch"]) ** 2 + 1, width),
        "visual.proj": (width, size["embed"]),
        "visual.conv1.weight": (width, 3, size["patch"], size["patch"]),
        "token_embedding.weight": (size["vocab"], text_width),
    }
    for name, features in (("visual.ln_pre", width), ("visual.ln_post", width), ("ln_final", text_width)):
        shapes |= {f"{name}.weight": (features,), f"{name}.bias": (features,)}
    shapes |= block_shapes("visual.transformer.resblocks", width, layers)
    return shapes | block_shapes("transformer.resblocks", text_width, text_layers)


def norm(weights: Weights, name: str, x: Tensor) -> Tensor:
    return F.layer_norm(x, x.shape[-1:], weights[f"{name}.weight"], weights[f"{name}.bias"], 1e-5)


def attend(weights: Weights, name: str, x: Tensor, heads: int, mask: Tensor | None) -> Tensor:
    batch, length, width = x.shape
    stacked = x @ weights[f"{name}.in_proj_weight"].T + weights[f"{name}.in_proj_bias"]
    q, k, v = (part.view(batch, length, heads, -1).transpose(1, 2) for part in stacked.split(width, dim=-1))
    logits = q @ k.transpose(-1, -2) / math.sqrt(width / heads)
    mixed = (logits if mask is None else logits + mask).softmax(dim=-1) @ v
    mixed = mixed.transpose(1, 2).reshape(batch, length, width)
    return mixed @ weights[f"{name}.out_proj.weight"].T + weights[f"{name}.out_proj.bias"]


def transform(weights: Weights, prefix: str, x: Tensor, layers: int, heads: int, mask: Tensor | None = None) -> Tensor:
    for layer in range(layers):
        name = f"{prefix}.{layer}"
        x = x + attend(weights, f"{name}.attn", norm(weights, f"{name}.ln_1", x), heads, mask)
        inner = F.linear(norm(weights, f"{name}.ln_2", x), *both(weights, f"{name}.mlp.c_fc"))
        x = x + F.linear(F.gelu(inner), *both(weights, f"{name}.mlp.c_proj"))
    return x


def both(weights: Weights, name: str) -> tuple[Tensor, Tensor]:
    return weights[f"{name}.weight"], weights[f"{name}.bias"]


def encode_image(weights: Weights, size: dict[str, Any], pixels: Tensor) -> Tensor:
    _, layers, heads = size["vision"]
    patches = F.conv2d(pixels, weights["visual.conv1.weight"], stride=size["patch"]).flatten(2).transpose(1, 2)
    first = weights["visual.class_embedding"].expand(len(pixels), 1, -1)
    x = torch.cat([first, patches], dim=1) + weights["visual.positional_embedding"]
    x = transform(weights, "visual.transformer.resblocks", norm(weights, "visual.ln_pre", x), layers, heads)
    return F.normalize(norm(weights, "visual.ln_post", x[:, 0]) @ weights["visual.proj"], dim=-1)


def encode_text(weights: Weights, size: dict[str, Any], ids: Tensor) -> Tensor:
    _, layers, heads = size["text"]
    mask = torch.full((ids.shape[1], ids.shape[1]), -math.inf).triu(1)
    x = weights["token_embedding.weight"][ids] + weights["positional_embedding"]
    x = norm(weights, "ln_final", transform(weights, "transformer.resblocks", x, layers, heads, mask))
    return F.normalize(x[torch.arange(len(ids)), ids.argmax(dim=-1)] @ weights["text_projection"], dim=-1)


def draw(size: dict[str, Any], random_weights: Callable[..., Weights]) -> Weights:
    """In half precision, as published."""
    weights = {name: value.half() for name, value in random_weights(checkpoint_shapes(size)).items()}
    return {**weights, "logit_scale": torch.tensor(4.6055).half()}


@pytest.fixture(params=[pytest.param(TINY, id="tiny"), pytest.param(VIT_H_14, id="full", marks=pytest.mark.slow)])
def size(request: pytest.FixtureRequest) -> dict[str, Any]:
    return request.param


@pytest.fixture
def weights(random_weights: Callable[..., Weights]) -> Weights:
    return draw(TINY, random_weights)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    random_tokenizer(TINY["vocab"], TINY["tokens"]).save_pretrained(tmp_path / "hps")
    return tmp_path / "hps"


def test_equals_open_clip(
    tmp_path: Path, size: dict[str, Any], random_weights: Callable[..., Weights], images: Tensor, prompts: list[str]
) -> None:
    weights = draw(size, random_weights)
    torch.save({"state_dict": weights}, tmp_path / "HPS_v2.1_compressed.pt")
    random_tokenizer(size["vocab"], size["tokens"]).save_pretrained(tmp_path)
    scorer = load_hpsv2(str(tmp_path))
    full = {name: value.float() for name, value in weights.items()}
    with torch.no_grad():
        pixels = Preprocess(size["image"], contain)(images)
        ids = scorer.tokenize(prompts)
        expected = (encode_image(full, size, pixels) * encode_text(full, size, ids)).sum(dim=-1)
    scores = scorer.score(images, prompts)
    assert ids.shape == (3, size["tokens"])
    assert expected.std() > 1e-3  # or the comparison would see nothing
    assert torch.allclose(scores, expected, atol=1e-5 if size is TINY else 1e-3)
    assert sum(p.numel() for p in scorer.parameters()) == sum(value.numel() for value in weights.values())
    assert (scorer.name, scorer.unit) == ("hpsv2", "cosine")
    assert scorer.scale == pytest.approx(float(full["logit_scale"].exp()))


def test_gradients_reach_the_pictures(
    folder: Path, weights: Weights, images: Tensor, prompts: list[str], check_gradients: Callable[..., Any]
) -> None:
    save_file(weights, folder / "HPS_v2.1_compressed.safetensors")
    check_gradients(load_scorer(f"hpsv2:{folder}"), images, prompts)


def test_a_mask_that_old_releases_saved_is_left_out(folder: Path, weights: Weights) -> None:
    save_file({**weights, "attn_mask": torch.zeros(24, 24)}, folder / "old.safetensors")
    assert isinstance(load_scorer(f"hpsv2:{folder / 'old.safetensors'}"), ClipScorer)


def test_a_folder_in_transformers_layout_is_read(tiny_clip: Path, images: Tensor, prompts: list[str]) -> None:
    scorer = load_scorer(f"hpsv2:{tiny_clip}")
    assert isinstance(scorer, ClipScorer)
    assert scorer.preprocess.fit is contain
    assert scorer.score(images, prompts).shape == (3,)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"visual.proj": None}, "lacks 1 weights of a CLIPModel: visual_projection.weight"),
        ({"visual.conv1.weight": None}, "no visual.conv1.weight"),
        ({"logit_scale": None}, "no logit_scale"),
        (
            {"visual.transformer.resblocks.0.ls_1.gamma": torch.ones(160)},
            "has 1 weights that a CLIPModel of its settings does not read",
        ),
        ({"ln_final.bias": torch.ones(7)}, r"final_layer_norm.bias is \[7\] where a CLIPModel has \[128\]"),
        ({"visual.conv1.weight": torch.zeros(96, 3, 8, 8)}, "not a ViT-H-14"),
    ],
)
def test_another_layout_is_refused(folder: Path, weights: Weights, change: Weights, message: str) -> None:
    changed = {name: value for name, value in {**weights, **change}.items() if value is not None}
    save_file(changed, folder / "HPS_v2.1_compressed.safetensors")
    with pytest.raises(PahiError, match=message) as caught:
        load_scorer(f"hpsv2:{folder}")
    assert "HPS_v2.1_compressed.pt" in caught.value.fix


# What the tokenizer of hpsv2 1.2.0, its fork of open_clip, made of them before it cut them into tokens; ftfy 6.3.1.
CLEANED = {
    "a red cat": "a red cat",
    "\u201ccurly\u201d \u2018quotes\u2019 it\u2019s": "\"curly\" 'quotes' it's",
    "it&#39;s a cat &amp; dog": "it's a cat & dog",
    "&amp;amp; twice": "& twice",
    "&amp;lt;b&amp;gt;": "<b>",
    " double  spaces\t tab\nnewline ": "double spaces tab newline",
    "x\u00a0y&nbsp;z&nbsp;": "x y z",
    "sch\u00c3\u00b6n": "sch\u00f6n",
    "Caf\u00c9 e\u0301": "caf\u00e9 \u00e9",
    "\ufb01sh \uff21\uff22\uff23": "fish abc",
    "\x1b[31mred\x1b[0m": "red",
    "": "",
}


@pytest.mark.parametrize(("prompt", "cleaned"), CLEANED.items())
def test_prompts_are_read_as_open_clip_reads_them(folder: Path, weights: Weights, prompt: str, cleaned: str) -> None:
    save_file(weights, folder / "HPS_v2.1_compressed.safetensors")
    scorer = load_scorer(f"hpsv2:{folder}")
    assert isinstance(scorer, ClipScorer)
    assert scorer.clean(prompt) == cleaned
    assert torch.equal(scorer.tokenize([prompt]), scorer.tokenize([cleaned]))


def test_pickscore_reads_prompts_as_its_model_card_does(tiny_clip: Path) -> None:
    scorers = [load_scorer(f"{kind}:{tiny_clip}") for kind in ("pickscore", "hpsv2")]
    ids = [scorer.tokenize(["a &amp; b"]) for scorer in scorers if isinstance(scorer, ClipScorer)]
    assert not torch.equal(*ids)


def test_without_ftfy(tiny_clip: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ftfy", None)
    assert load_scorer(f"pickscore:{tiny_clip}")
    with pytest.raises(PahiError) as caught:
        load_scorer(f"hpsv2:{tiny_clip}")
    assert caught.value.fix == "pip install 'pahi-rt[train]'"


@pytest.mark.usefixtures("no_hub")
def test_a_missing_tokenizer_is_asked_for(tmp_path: Path, weights: Weights) -> None:
    save_file(weights, tmp_path / "HPS_v2.1_compressed.safetensors")
    with pytest.raises(PahiError, match="laion/CLIP-ViT-H-14") as caught:
        load_scorer(f"hpsv2:{tmp_path}")
    assert f"into {tmp_path}" in caught.value.fix
