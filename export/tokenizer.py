"""The model's tokenizer as one file in Hugging Face tokenizers format, checked against transformers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from transformers import CLIPTokenizer

from pahi_rt.bundle import TokenizerSpec
from pahi_rt.errors import PahiError, ParityError
from pahi_rt.tokenizer import Tokenizer
from pahi_rt.train.generators import Generator

FILE = "tokenizer.json"
SAMPLES = ("A grinning CAT", "it's 12 o'clock!!", "naïve café, 猫 🐱", "  two\n spaces ", "long " * 200)
"""Case, contractions, digits, accents, other scripts, white space, and a prompt that must be cut."""


def save_tokenizer(model: Path, generator: Generator, folder: Path) -> TokenizerSpec:
    """Write the tokenizer of `model` into `folder`. Raises PahiError or ParityError if it cannot be used as it is."""
    tokenizer = _load(model)
    spec = TokenizerSpec(file=FILE, max_length=generator.max_length, pad_id=tokenizer.pad_token_id)
    vocabulary = generator.text_encoder.config.vocab_size
    if len(tokenizer) > vocabulary:
        raise PahiError(
            f"the tokenizer of {model} has {len(tokenizer)} tokens, its text encoder knows {vocabulary}",
            fix="use the tokenizer that the text encoder was trained with",
        )
    rust = tokenizer.backend_tokenizer
    # The runtime cuts and pads by itself, with the numbers of the manifest.
    rust.no_truncation()
    rust.no_padding()
    rust.save(str(folder / FILE))
    _check_ids(tokenizer, Tokenizer(folder / FILE, spec.max_length, spec.pad_id), spec)
    return spec


def _load(model: Path) -> CLIPTokenizer:
    folder = model / "tokenizer"
    fix = "save the complete pipeline: StableDiffusionPipeline.save_pretrained writes it"
    if not folder.is_dir():
        raise PahiError(f"the model {model} lacks its tokenizer", fix=fix)
    try:
        tokenizer = CLIPTokenizer.from_pretrained(folder)
    except (OSError, ValueError, TypeError) as error:
        raise PahiError(f"cannot read the tokenizer in {folder}: {error}", fix=fix) from error
    if tokenizer.pad_token_id is None:
        raise PahiError(f"the tokenizer in {folder} has no padding token", fix="set tokenizer.pad_token and save it")
    return tokenizer


def _check_ids(original: CLIPTokenizer, saved: Tokenizer, spec: TokenizerSpec) -> None:
    expected = original(list(SAMPLES), padding="max_length", max_length=spec.max_length, truncation=True).input_ids
    for sample, ours, theirs in zip(SAMPLES, saved.encode(SAMPLES).input_ids, expected, strict=True):
        if not np.array_equal(ours, theirs):
            raise ParityError(
                f"the saved tokenizer reads {sample[:20]!r} differently from transformers",
                fix="save the model's tokenizer with CLIPTokenizer.save_pretrained and export again",
            )
