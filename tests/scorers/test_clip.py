"""PickScore and CLIPScore against the computation of PickScore's model card, on a tiny CLIP in the published layout."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import CLIPModel, CLIPTokenizer
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

from pahi_rt.errors import PahiError, ScorerError
from pahi_rt.scorers import load_scorer
from pahi_rt.scorers.clip import ClipScorer, read_normalisation

LONG = "night " * 40


def as_the_model_card_does(folder: Path, pictures: list[Image.Image], prompts: list[str]) -> Tensor:
    """exp(logit_scale) cosine, [B], by transformers' own processing and features."""
    model = CLIPModel.from_pretrained(folder).eval()
    config = model.config
    size = config.vision_config.image_size
    processor = CLIPImageProcessorPil(size={"shortest_edge": size}, crop_size={"height": size, "width": size})
    tokens = CLIPTokenizer.from_pretrained(folder)(
        prompts,
        padding=True,
        truncation=True,
        max_length=config.text_config.max_position_embeddings,
        return_tensors="pt",
    )
    with torch.no_grad():
        image = model.get_image_features(**processor(pictures, return_tensors="pt")).pooler_output
        text = model.get_text_features(**tokens).pooler_output
    image, text = image / image.norm(dim=-1, keepdim=True), text / text.norm(dim=-1, keepdim=True)
    return model.logit_scale.exp() * (text @ image.T).diagonal()


def draw_pictures(size: int) -> tuple[list[Image.Image], Tensor]:
    """The same pictures for Pillow and as a tensor [3, 3, size, size]."""
    pixels = np.random.default_rng(0).integers(0, 256, (3, size, size, 3), dtype=np.uint8)
    return [Image.fromarray(p) for p in pixels], torch.from_numpy(pixels).permute(0, 3, 1, 2) / 255


def test_equals_the_model_card(tiny_clip: Path) -> None:
    pictures, images = draw_pictures(32)
    prompts = ["a red cat", LONG, ""]
    expected = as_the_model_card_does(tiny_clip, pictures, prompts).detach()
    scorer = load_scorer(f"pickscore:{tiny_clip}")
    scores = scorer.score(images, prompts)
    assert scores.std() > 0.01  # or the comparison would see nothing
    assert torch.allclose(scores * scorer.scale, expected, atol=1e-4)
    assert scorer.scale == pytest.approx(math.exp(4.6052))
    assert (scorer.name, scorer.unit) == ("pickscore", "cosine")


def test_equals_the_model_card_with_a_right_end_token(tiny_clip: Path) -> None:
    path = tiny_clip / "config.json"
    config = json.loads(path.read_text())
    config["text_config"]["eos_token_id"] = 599
    path.write_text(json.dumps(config))
    pictures, images = draw_pictures(32)
    expected = as_the_model_card_does(tiny_clip, pictures, ["a cat", LONG, "b"]).detach()
    scorer = load_scorer(f"clipscore:{tiny_clip}")
    assert torch.allclose(scorer.score(images, ["a cat", LONG, "b"]) * scorer.scale, expected, atol=1e-4)
    assert scorer.name == "clipscore"


def test_pictures_of_any_size_are_scored_and_reached(
    tiny_clip: Path, images: Tensor, prompts: list[str], check_gradients: Callable[..., Any]
) -> None:
    scorer = load_scorer(f"pickscore:{tiny_clip}")
    check_gradients(scorer, images, prompts)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert scorer.score(images, prompts).dtype == torch.float32


def test_each_prompt_meets_its_own_picture(tiny_clip: Path, images: Tensor) -> None:
    scorer = load_scorer(f"pickscore:{tiny_clip}")
    prompts = ["b", "a", "b"]
    alone = [scorer.score(images[i : i + 1], prompts[i : i + 1]) for i in range(3)]
    assert torch.allclose(scorer.score(images, prompts), torch.cat(alone), atol=1e-5)


def test_a_long_prompt_is_cut_and_keeps_its_end(tiny_clip: Path) -> None:
    scorer = load_scorer(f"pickscore:{tiny_clip}")
    assert isinstance(scorer, ClipScorer)
    ids = scorer.tokenize([LONG, "a"])
    assert ids.shape == (2, 24)
    assert ids[0, -1] == 599 and (ids[0, 1:-1] != 599).all()


def test_the_normalisation_that_the_folder_states_is_used(tiny_clip: Path, images: Tensor, prompts: list[str]) -> None:
    before = load_scorer(f"pickscore:{tiny_clip}").score(images, prompts)
    stated = {"image_mean": [0.5, 0.5, 0.5], "image_std": [0.5, 0.5, 0.5]}
    (tiny_clip / "preprocessor_config.json").write_text(json.dumps(stated))
    scorer = load_scorer(f"pickscore:{tiny_clip}")
    assert isinstance(scorer, ClipScorer)
    assert scorer.preprocess.mean.flatten().tolist() == stated["image_mean"]
    assert not torch.allclose(scorer.score(images, prompts), before, atol=1e-4)


def damage_config(folder: Path) -> None:
    (folder / "config.json").write_text('{"model_type": "blip"}')


def remove_config(folder: Path) -> None:
    (folder / "config.json").unlink()


def pickle_weights(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")


def remove_weights(folder: Path) -> None:
    (folder / "model.safetensors").unlink()


def cut_weights(folder: Path) -> None:
    content = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(content[: len(content) // 2])


def change_sizes(folder: Path) -> None:
    path = folder / "config.json"
    path.write_text(path.read_text().replace('"hidden_size": 32', '"hidden_size": 64'))


def say_nonsense(folder: Path) -> None:
    path = folder / "config.json"
    path.write_text(path.read_text().replace('"hidden_size": 32', '"hidden_size": "wide"'))


def seek_another_end(folder: Path) -> None:
    path = folder / "config.json"
    path.write_text(path.read_text().replace('"eos_token_id": 2', '"eos_token_id": 49407'))


def add_a_layer(folder: Path) -> None:
    path = folder / "config.json"
    path.write_text(path.read_text().replace('"num_hidden_layers": 2', '"num_hidden_layers": 3'))


def drop_a_layer(folder: Path) -> None:
    path = folder / "config.json"
    path.write_text(path.read_text().replace('"num_hidden_layers": 2', '"num_hidden_layers": 1'))


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (damage_config, "is a blip, not a clip"),
        (remove_config, "config.json: No such file"),
        (pickle_weights, "are a pickle"),
        (remove_weights, "no weights"),
        (cut_weights, "cannot read .* as a CLIPModel: "),
        (change_sizes, r"is \[.*\] where a CLIPModel has \[.*\], and \d+ more"),
        (say_nonsense, "cannot read .* as a CLIPModel: .*hidden_size"),
        (seek_another_end, "the end token 49407, its tokenizer writes 599"),
        (add_a_layer, "lacks 32 weights of a CLIPModel"),
        (drop_a_layer, "has 32 weights that a CLIPModel of its settings does not read: .* and 29 more"),
    ],
)
def test_a_damaged_folder_is_refused(tiny_clip: Path, damage: Callable[[Path], None], message: str) -> None:
    damage(tiny_clip)
    with pytest.raises(PahiError, match=message) as caught:
        load_scorer(f"pickscore:{tiny_clip}")
    assert caught.value.fix


def poison(folder: Path) -> None:
    weights = load_file(folder / "model.safetensors")
    save_file({**weights, "logit_scale": torch.tensor(math.nan)}, folder / "model.safetensors", {"format": "pt"})


def wrap_as_peft_does(folder: Path) -> None:
    weights = load_file(folder / "model.safetensors")
    weights = {name.replace("q_proj.", "q_proj.base_layer."): value for name, value in weights.items()}
    save_file(weights, folder / "model.safetensors", {"format": "pt"})


def quantise(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    config["quantization_config"] = {"quant_method": "bitsandbytes"}
    (folder / "config.json").write_text(json.dumps(config))


@pytest.mark.parametrize(
    ("damage", "what", "fix"),
    [
        (poison, "logit_scale in .* holds NaN or infinity", "download it again"),
        (wrap_as_peft_does, "an adapter that is not fused", "merge_and_unload"),
        (quantise, r"quantised \(bitsandbytes\)", "unquantised weights"),
        (lambda folder: (folder / "config.json").write_text("["), "config.json: it is not JSON", "CLIPModel"),
        (lambda folder: (folder / "config.json").write_text("[]"), "config.json: it is not a JSON object", "CLIPModel"),
    ],
)
def test_what_cannot_score_is_refused_by_name(
    tiny_clip: Path, damage: Callable[[Path], Any], what: str, fix: str
) -> None:
    damage(tiny_clip)
    with pytest.raises(ScorerError, match=what) as caught:
        load_scorer(f"clipscore:{tiny_clip}")
    assert fix in caught.value.fix
    assert "\n" not in caught.value.what


@pytest.mark.parametrize("values", [None, [], [0.5, 0.5], 0.5, ["a", "b", "c"], [0.5, 0.5, None], [0.5, 0.5, math.nan]])
@pytest.mark.parametrize("name", ["image_mean", "image_std"])
def test_colours_must_be_normalised_by_three_numbers(tiny_clip: Path, name: str, values: Any) -> None:
    (tiny_clip / "preprocessor_config.json").write_text(json.dumps({name: values}))
    with pytest.raises(ScorerError, match=f"{name} in .*preprocessor_config.json is"):
        read_normalisation(tiny_clip)


def test_a_spread_of_colours_is_above_zero(tiny_clip: Path) -> None:
    (tiny_clip / "preprocessor_config.json").write_text('{"image_std": [0.2, 0.0, 0.2]}')
    with pytest.raises(ScorerError, match="cannot normalise three colours"):
        load_scorer(f"pickscore:{tiny_clip}")


def test_positions_that_older_releases_saved_are_harmless(tiny_clip: Path, images: Tensor, prompts: list[str]) -> None:
    """As in PickScore's published file."""
    expected = load_scorer(f"pickscore:{tiny_clip}").score(images, prompts)
    positions = {f"{tower}_model.embeddings.position_ids": torch.arange(24)[None] for tower in ("text", "vision")}
    weights = load_file(tiny_clip / "model.safetensors")
    save_file({**weights, **positions}, tiny_clip / "model.safetensors", {"format": "pt"})
    assert torch.equal(load_scorer(f"pickscore:{tiny_clip}").score(images, prompts), expected)


@pytest.mark.usefixtures("no_hub")
def test_the_tokenizer_must_be_there_and_fit(tiny_clip: Path, tmp_path: Path) -> None:
    other = Path(shutil.copytree(tiny_clip, tmp_path / "other"))
    for path in other.glob("*token*"):
        path.unlink()
    with pytest.raises(PahiError, match="laion/CLIP-ViT-H-14"):
        load_scorer(f"pickscore:{other}")
    vocabulary = json.loads((tiny_clip / "tokenizer.json").read_text())
    vocabulary["model"]["vocab"]["one more</w>"] = 600
    (tiny_clip / "tokenizer.json").write_text(json.dumps(vocabulary))
    with pytest.raises(PahiError, match="601 tokens, the model knows 600"):
        load_scorer(f"pickscore:{tiny_clip}")


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["pickscore", "clipscore"])
def test_the_full_architecture(
    tmp_path: Path, kind: str, save_clip: Callable[..., Path], check_gradients: Callable[..., Any]
) -> None:
    """ViT-H/14 as yuvalkirstain/PickScore_v1, ViT-L/14 as openai/clip-vit-large-patch14."""
    text: dict[str, Any] = {"vocab_size": 49408, "eos_token_id": 2}
    vision: dict[str, Any]
    if kind == "pickscore":
        vision = {"hidden_size": 1280, "intermediate_size": 5120, "num_hidden_layers": 32, "num_attention_heads": 16}
        text |= {"hidden_size": 1024, "intermediate_size": 4096, "num_hidden_layers": 24, "num_attention_heads": 16}
        vision["hidden_act"] = text["hidden_act"] = "gelu"
        width, parameters = 1024, 986_109_441
    else:
        vision = {"hidden_size": 1024, "intermediate_size": 4096, "num_hidden_layers": 24, "num_attention_heads": 16}
        text |= {"hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12, "num_attention_heads": 12}
        width, parameters = 768, 427_616_513
    folder = save_clip(tmp_path / kind, {**vision, "patch_size": 14}, text, width)
    pictures, images = draw_pictures(224)
    scorer = load_scorer(f"{kind}:{folder}")
    assert isinstance(scorer, ClipScorer)
    assert sum(parameter.numel() for parameter in scorer.parameters()) == parameters
    expected = as_the_model_card_does(folder, pictures, ["a red cat", LONG * 3, ""])
    scores = scorer.score(images, ["a red cat", LONG * 3, ""])
    assert torch.allclose(scores * scorer.scale, expected, atol=1e-2)
    check_gradients(scorer, images[:1], ["a red cat"])
