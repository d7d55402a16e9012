"""ImageReward (Xu et al. 2023): a BLIP whose text encoder attends to the picture, and a linear head.

    picture -> ViT-L/16 -> [B, 197, 1024] -\\
    prompt (35 tokens)  -> BERT-base with cross-attention -> state of [CLS] -> head -> (r - MEAN) / STD

The towers are transformers' BlipVisionModel and BlipTextModel; the published ImageReward.pt names its weights as
Salesforce's BLIP does.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from torch import Tensor, nn
from transformers import BertTokenizer, BlipTextConfig, BlipTextModel, BlipVisionConfig, BlipVisionModel

from pahi_rt.errors import ScorerError
from pahi_rt.models.folders import locate
from pahi_rt.scorers.checkpoints import (
    build,
    check_layout,
    check_nothing_else,
    count_layers,
    load_tokenizer,
    read_weights,
    rename,
    under,
    weights_file,
)
from pahi_rt.scorers.head import load_head
from pahi_rt.scorers.preprocess import Preprocess, check_inputs, cover

IMAGE_REWARD, FILE = "zai-org/ImageReward", "ImageReward.pt"
BERT = "google-bert/bert-base-uncased"
MEAN, STD = 0.16717362830052426, 1.0333394966054072
"""The authors' standardisation of the head's output."""
MAX_TOKENS = 35
HEAD_WIDTH = 64
"""Width of an attention head of ViT-L and BERT-base: the only size that the shapes of the weights do not give."""

_VISION, _TEXT, _HEAD = "blip.visual_encoder.", "blip.text_encoder.", "mlp.layers."
_UNREAD = "blip.vision_proj.", "blip.text_proj."
"""Weights in the published file that BLIP was pre-trained with, and that the reward does not depend on."""
_VISION_NAMES = {
    "cls_token": "embeddings.class_embedding",
    "pos_embed": "embeddings.position_embedding",
    "patch_embed.proj.": "embeddings.patch_embedding.",
    "norm.": "post_layernorm.",
    "blocks.": "encoder.layers.",
}
"""Beginnings of names."""
_VISION_INSIDE = {
    ".norm1.": ".layer_norm1.",
    ".norm2.": ".layer_norm2.",
    ".attn.qkv.": ".self_attn.qkv.",
    ".attn.proj.": ".self_attn.projection.",
}
_FIX = f"give the file {FILE} of {IMAGE_REWARD}"


class ImageRewardScorer(nn.Module):
    """score = (r - MEAN) / STD of the head's output r, as the authors print it."""

    name = "imagereward"
    unit = "standardised reward"
    # The authors train r with softmax(r, r'), so one unit of the standardised reward is STD logits.
    scale = STD
    max_tokens, size, unported = MAX_TOKENS, None, ()

    def __init__(self, vision: Any, text: Any, head: nn.Sequential, tokenizer: Any) -> None:
        super().__init__()
        self.vision = vision
        self.text = text
        self.head = head
        self.tokenizer = tokenizer
        # The authors crop pictures with torchvision.
        self.preprocess = Preprocess(vision.config.image_size, partial(cover, round_offset=round))
        self.float().eval().requires_grad_(False)

    def score(self, images: Tensor, prompts: Sequence[str]) -> Tensor:
        """Pictures [B, 3, H, W] in [0, 1] and B prompts -> rewards [B]. Raises ScorerError for other shapes."""
        check_inputs(images, prompts)
        return self._score(images, *self.tokenize(prompts))

    def score_ids(self, images: Tensor, input_ids: Tensor) -> Tensor:
        """Pictures [B, 3, H, W] in [0, 1] and token ids int64 [B, 35] -> rewards [B]. Only padding has the pad id."""
        return self._score(images, input_ids, (input_ids != self.tokenizer.pad_token_id).long())

    def _score(self, images: Tensor, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        patches = self.vision(self.preprocess(images)).last_hidden_state
        states = self.text(input_ids, attention_mask=attention_mask, encoder_hidden_states=patches).last_hidden_state
        rewards: Tensor = self.head(states[:, 0].float())
        return (rewards.float().squeeze(-1) - MEAN) / STD

    def tokenize(self, prompts: Sequence[str]) -> tuple[Tensor, Tensor]:
        """B prompts -> token ids and mask, int64 [B, 35], on the model's device. The first token is [CLS]."""
        tokens = self.tokenizer(
            list(prompts), padding="max_length", truncation=True, max_length=MAX_TOKENS, return_tensors="pt"
        ).to(self.text.device)
        return tokens.input_ids, tokens.attention_mask


def load_image_reward(source: str | None = None) -> ImageRewardScorer:
    """Load ImageReward from its published checkpoint, a folder with that file, or the hub.

    The checkpoint comes without a tokenizer: BERT's is read from its folder, or else from the hub. Raises ScorerError
    if something is missing or of another architecture.
    """
    path = weights_file(locate(source or IMAGE_REWARD, (FILE,), partial(ScorerError, fix=_FIX)), (FILE,))
    weights = read_weights(path)
    check_nothing_else(weights, (_VISION, _TEXT, _HEAD, *_UNREAD), path, _FIX)
    vision_config = infer_vision_config(weights, path)
    text_config = infer_text_config(weights, path)
    vision = build(BlipVisionModel, None, path, _FIX, config=vision_config, state_dict=convert_vision_weights(weights))
    text = build(
        BlipTextModel, None, path, _FIX, config=text_config, state_dict=under(weights, _TEXT), add_pooling_layer=False
    )
    head = load_head(under(weights, _HEAD), text_config.hidden_size, path, _FIX)
    return ImageRewardScorer(
        vision, text, head, load_tokenizer(BertTokenizer, path.parent, BERT, text_config.vocab_size)
    )


def infer_vision_config(weights: Mapping[str, Tensor], path: Path) -> BlipVisionConfig:
    """Configuration of BLIP's picture tower, from the shapes of the weights. Raises ScorerError for another layout."""
    names = ("patch_embed.proj.weight", "pos_embed", "blocks.0.mlp.fc1.weight")
    check_layout(weights, [_VISION + name for name in names], path, _FIX)
    patches, positions, inner = (weights[_VISION + name] for name in names)
    width, _, patch, _ = patches.shape
    return BlipVisionConfig(
        hidden_size=width,
        intermediate_size=len(inner),
        num_hidden_layers=count_layers(weights, _VISION + "blocks."),
        num_attention_heads=_count_heads(width, path),
        image_size=math.isqrt(positions.shape[1] - 1) * patch,
        patch_size=patch,
        # The value of Salesforce's BLIP; transformers has another default.
        layer_norm_eps=1e-6,
    )


def infer_text_config(weights: Mapping[str, Tensor], path: Path) -> BlipTextConfig:
    """Configuration of BLIP's prompt tower, from the shapes of the weights. Raises ScorerError for another layout."""
    names = (
        "embeddings.word_embeddings.weight",
        "embeddings.position_embeddings.weight",
        "encoder.layer.0.intermediate.dense.weight",
        "encoder.layer.0.crossattention.self.key.weight",
    )
    check_layout(weights, [*(_TEXT + name for name in names), _HEAD + "0.weight"], path, _FIX)
    words, positions, inner, keys = (weights[_TEXT + name] for name in names)
    return BlipTextConfig(
        vocab_size=len(words),
        hidden_size=words.shape[1],
        encoder_hidden_size=keys.shape[1],
        intermediate_size=len(inner),
        num_hidden_layers=count_layers(weights, _TEXT + "encoder.layer."),
        num_attention_heads=_count_heads(words.shape[1], path),
        max_position_embeddings=len(positions),
    )


def convert_vision_weights(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The weights of a checkpoint's picture tower, with the names of transformers' BlipVisionModel."""
    return {rename(name, _VISION_NAMES, _VISION_INSIDE): value for name, value in under(weights, _VISION).items()}


def _count_heads(width: int, path: Path) -> int:
    if width % HEAD_WIDTH:
        raise ScorerError(f"{path} has another layout: a width of {width} is not a multiple of {HEAD_WIDTH}", fix=_FIX)
    return width // HEAD_WIDTH
