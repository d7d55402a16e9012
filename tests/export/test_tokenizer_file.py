"""The tokenizer.json of a bundle reads prompts as the model's own tokenizer does."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from transformers import CLIPTokenizer

from pahi_rt.errors import PahiError
from pahi_rt.export.tokenizer import SAMPLES, save_tokenizer
from pahi_rt.manifest import TokenizerSpec
from pahi_rt.models.generators import Generator
from pahi_rt.tokenizer import Tokenizer


def test_reads_as_transformers_does(model: Path, generator: Generator, tmp_path: Path) -> None:
    spec = save_tokenizer(model, generator, tmp_path)
    assert spec == TokenizerSpec("tokenizer.json", 24, 0)
    encoded = Tokenizer(tmp_path / spec.file, spec.max_length, spec.pad_id).encode(SAMPLES)
    original = CLIPTokenizer.from_pretrained(model / "tokenizer")
    expected = original(list(SAMPLES), padding="max_length", max_length=24, truncation=True).input_ids
    assert encoded.input_ids.tolist() == expected
    assert encoded.truncated[-1]


def test_file_neither_cuts_nor_pads(model: Path, generator: Generator, tmp_path: Path) -> None:
    save_tokenizer(model, generator, tmp_path)
    content = json.loads((tmp_path / "tokenizer.json").read_text())
    assert content["truncation"] is None
    assert content["padding"] is None


def test_a_missing_tokenizer_is_an_error(model: Path, generator: Generator, tmp_path: Path) -> None:
    copy = shutil.copytree(model, tmp_path / "model", ignore=shutil.ignore_patterns("tokenizer"))
    with pytest.raises(PahiError, match="lacks its tokenizer"):
        save_tokenizer(Path(copy), generator, tmp_path)


def test_tokens_that_the_text_encoder_does_not_know_are_an_error(
    model: Path, generator: Generator, tmp_path: Path
) -> None:
    generator.text_encoder.config.vocab_size = 599
    with pytest.raises(PahiError, match="600 tokens, its text encoder knows 599"):
        save_tokenizer(model, generator, tmp_path)
