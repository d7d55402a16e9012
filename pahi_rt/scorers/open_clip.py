"""Converts the weights of open_clip's CLIP to transformers' CLIPModel, and cleans prompts as open_clip does.

    visual.transformer.resblocks.3.mlp.c_fc.weight -> vision_model.encoder.layers.3.mlp.fc1.weight

Projections are transposed, and the stacked input projection of attention is split into three.
"""

from __future__ import annotations

import html
import math
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from torch import Tensor
from transformers import CLIPConfig

from pahi_rt.errors import ScorerError
from pahi_rt.scorers.checkpoints import check_layout, count_layers, rename

VISION_HEAD, TEXT_HEAD = 80, 64
"""Widths of ViT-H-14's attention heads: the only sizes that the shapes of the weights do not give."""

_NAMES = {
    "visual.class_embedding": "vision_model.embeddings.class_embedding",
    "visual.conv1.weight": "vision_model.embeddings.patch_embedding.weight",
    "visual.positional_embedding": "vision_model.embeddings.position_embedding.weight",
    "visual.ln_pre.": "vision_model.pre_layrnorm.",
    "visual.ln_post.": "vision_model.post_layernorm.",
    "visual.proj": "visual_projection.weight",
    "visual.transformer.resblocks.": "vision_model.encoder.layers.",
    "token_embedding.weight": "text_model.embeddings.token_embedding.weight",
    "positional_embedding": "text_model.embeddings.position_embedding.weight",
    "ln_final.": "text_model.final_layer_norm.",
    "text_projection": "text_projection.weight",
    "transformer.resblocks.": "text_model.encoder.layers.",
}
"""Beginnings of names."""
_INSIDE_A_LAYER = {
    ".ln_1.": ".layer_norm1.",
    ".ln_2.": ".layer_norm2.",
    ".mlp.c_fc.": ".mlp.fc1.",
    ".mlp.c_proj.": ".mlp.fc2.",
    ".attn.": ".self_attn.",
}
_TRANSPOSED = ("visual.proj", "text_projection")
_STACKED = ".self_attn.in_proj_"


def infer_config(weights: Mapping[str, Tensor], path: Path, fix: str) -> CLIPConfig:
    """Configuration of a CLIP with ViT-H-14's head widths and activation; its sizes come from the weights' shapes.

    Raises ScorerError with `fix` if the names are not open_clip's, or a width is not a multiple of a head of ViT-H-14.
    """
    layers = [f"{prefix}0.mlp.c_fc.weight" for prefix in ("visual.transformer.resblocks.", "transformer.resblocks.")]
    check_layout(weights, [*layers, "logit_scale", "visual.conv1.weight", "token_embedding.weight"], path, fix)
    check_layout(weights, ["visual.positional_embedding", "positional_embedding", "text_projection"], path, fix)
    width, _, patch, _ = weights["visual.conv1.weight"].shape
    vocabulary, text_width = weights["token_embedding.weight"].shape
    if width % VISION_HEAD or text_width % TEXT_HEAD:
        raise ScorerError(f"{path} is not a ViT-H-14: it is {width} and {text_width} wide", fix=fix)
    vision = {
        "hidden_size": width,
        "num_attention_heads": width // VISION_HEAD,
        "patch_size": patch,
        "image_size": math.isqrt(len(weights["visual.positional_embedding"]) - 1) * patch,
        **_layers(weights, "visual.transformer.resblocks."),
    }
    text = {
        "hidden_size": text_width,
        "num_attention_heads": text_width // TEXT_HEAD,
        "max_position_embeddings": len(weights["positional_embedding"]),
        "vocab_size": vocabulary,
        # The last two tokens of the tokenizer.
        "bos_token_id": vocabulary - 2,
        "eos_token_id": vocabulary - 1,
        **_layers(weights, "transformer.resblocks."),
    }
    return CLIPConfig(text_config=text, vision_config=vision, projection_dim=weights["text_projection"].shape[1])


def convert_weights(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A state dict of open_clip's CLIP -> one of transformers' CLIPModel. Unknown names stay as they are."""
    # attn_mask is the causal mask, which older releases of open_clip saved too.
    return dict(pair for name, value in weights.items() if name != "attn_mask" for pair in _convert(name, value))


def load_cleaner() -> Callable[[str], str]:
    """A function that rewrites a prompt as open_clip's tokenizer does before splitting it; transformers' does not.

    It repairs broken encodings and straightens curly quotes (ftfy), resolves HTML entities twice, turns white space
    into single blanks, and lowers the case. Raises ScorerError if ftfy is not installed.
    """
    try:
        from ftfy import fix_text
    except ModuleNotFoundError as error:
        fix = "pip install 'pahi-rt[train]'"
        raise ScorerError("HPSv2 reads prompts with the package ftfy, which is not installed", fix=fix) from error

    def clean(prompt: str) -> str:
        resolved = html.unescape(html.unescape(fix_text(prompt)))
        return re.sub(r"\s+", " ", resolved).strip().lower()

    return clean


def _convert(name: str, value: Tensor) -> Iterator[tuple[str, Tensor]]:
    renamed = rename(name, _NAMES, _INSIDE_A_LAYER)
    if _STACKED in renamed:
        layer, kind = renamed.split(_STACKED)
        for part, rows in zip("qkv", value.chunk(3), strict=True):
            yield f"{layer}.self_attn.{part}_proj.{kind}", rows
    else:
        yield renamed, value.T if name in _TRANSPOSED else value


def _layers(weights: Mapping[str, Tensor], prefix: str) -> dict[str, int | str]:
    return {
        "num_hidden_layers": count_layers(weights, prefix),
        "intermediate_size": len(weights[f"{prefix}0.mlp.c_fc.weight"]),
        "hidden_act": "gelu",
    }
