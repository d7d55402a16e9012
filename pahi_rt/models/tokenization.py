"""Checks a tokenizer's settings: each is obeyed as diffusers obeys it, or the model is refused.

The bundle's own tokenizer (pahi_rt.tokenizer) cuts and pads on the right, and reads special tokens as such wherever a
prompt spells them out. One tensor of ids serves both encoders of SDXL.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from transformers import CLIPTextModel, CLIPTokenizer

from pahi_rt.errors import ModelError

SHORTEST = 3
"""Fewest tokens of a prompt: the start, one word, and the end."""
OBEYED = {"padding_side": "right", "truncation_side": "right", "split_special_tokens": False}
"""Setting -> the only value that graphs and runtimes support."""


def prompt_length(tokenizer: CLIPTokenizer, text_encoder: CLIPTextModel) -> int:
    """T, the tokens of a prompt with padding: the tokenizer's maximum, or the text encoder's if that is smaller."""
    return min(int(tokenizer.model_max_length), int(text_encoder.config.max_position_embeddings))


def check_tokenizer(folder: Path, tokenizer: CLIPTokenizer) -> None:
    """Raises ModelError if the tokenizer in `folder` has a setting that changes its ids and that is not supported."""
    settings = folder / "tokenizer_config.json"
    for name, value in OBEYED.items():
        if getattr(tokenizer, name, value) != value:
            what = f"the tokenizer in {folder} has {name} = {getattr(tokenizer, name)!r}, which bundles do not know"
            raise ModelError(what, fix=f"set {name} to {str(value).lower()} in {settings}, if the model was trained so")
    length = tokenizer.model_max_length
    if not isinstance(length, int) or length < SHORTEST:
        what = f"the tokenizer in {folder} cuts prompts to {length!r} tokens, which leaves no room for words"
        raise ModelError(what, fix=f"set model_max_length in {settings} (77 for Stable Diffusion)")
    _check_vectors(folder, tokenizer)


def _check_vectors(folder: Path, tokenizer: CLIPTokenizer) -> None:
    """Raises ModelError for a token of several vectors, such as "<cat>" with "<cat>_1" and "<cat>_2".

    diffusers reads "<cat>" as "<cat> <cat>_1 <cat>_2" if these are among the added tokens.
    """
    added = tokenizer.added_tokens_encoder
    for token in added:
        if f"{token}_1" in added:
            raise ModelError(
                f"the tokenizer in {folder} has a token of several vectors, {token}, which bundles do not know",
                fix="train the concept as one vector, or as a LoRA that is fused",
            )


def check_both_tokenizers(folder: Path, parts: dict[str, Any]) -> None:
    """Raises ModelError unless SDXL's two tokenizers differ only in their padding."""
    first, second = ((parts[f"tokenizer{n}"], parts[f"text_encoder{n}"]) for n in ("", "_2"))
    lengths = [prompt_length(*pair) for pair in (first, second)]
    difference = None
    if lengths[0] != lengths[1]:
        difference = f"prompts of {lengths[0]} and {lengths[1]} tokens"
    elif first[0].get_vocab() != second[0].get_vocab():
        difference = "different vocabularies"
    elif _ends(first[0]) != _ends(second[0]):
        difference = "different tokens at a prompt's start and end"
    if difference:
        raise ModelError(
            f"the two text encoders of {folder} read {difference}, so the same ids cannot serve both",
            fix="use an SDXL model, whose tokenizers differ in their padding alone",
        )


def _ends(tokenizer: CLIPTokenizer) -> tuple[int | None, int | None]:
    return tokenizer.bos_token_id, tokenizer.eos_token_id
