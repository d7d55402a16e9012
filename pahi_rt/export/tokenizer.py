"""The model's tokenizer as one file in Hugging Face tokenizers format, checked against transformers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from transformers import CLIPTokenizer

from pahi_rt.errors import ParityError
from pahi_rt.manifest import TokenizerSpec
from pahi_rt.models.components import check_vocabulary, load_tokenizer
from pahi_rt.models.generators import Generator
from pahi_rt.tokenizer import Tokenizer

FILE = "tokenizer.json"
SAMPLES = ("A grinning CAT", "it's 12 o'clock!!", "naïve café, 猫 🐱", "  two\n spaces ", "long " * 200)
"""Case, contractions, digits, accents, other scripts, white space, and a prompt that must be cut."""


def save_tokenizer(model: Path, generator: Generator, folder: Path) -> TokenizerSpec:
    """Write the tokenizer of `model` into `folder`. Raises PahiError or ParityError if it cannot be used as it is."""
    # Not the generator's, since what follows changes it.
    tokenizer = load_tokenizer(model / "tokenizer")
    spec = TokenizerSpec(file=FILE, max_length=generator.max_length, pad_id=tokenizer.pad_token_id)
    check_vocabulary(model, tokenizer, generator.text_encoder)
    rust = tokenizer.backend_tokenizer
    # The runtime cuts and pads by itself, with the numbers of the manifest.
    rust.no_truncation()
    rust.no_padding()
    rust.save(str(folder / FILE))
    _check_ids(tokenizer, Tokenizer(folder / FILE, spec.max_length, spec.pad_id), spec)
    return spec


def _check_ids(original: CLIPTokenizer, saved: Tokenizer, spec: TokenizerSpec) -> None:
    expected = original(list(SAMPLES), padding="max_length", max_length=spec.max_length, truncation=True).input_ids
    for sample, ours, theirs in zip(SAMPLES, saved.encode(SAMPLES).input_ids, expected, strict=True):
        if not np.array_equal(ours, theirs):
            raise ParityError(
                f"the saved tokenizer reads {sample[:20]!r} differently from transformers",
                fix="save the model's tokenizer with CLIPTokenizer.save_pretrained and export again",
            )
