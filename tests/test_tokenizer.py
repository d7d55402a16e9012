from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from pahi_rt.errors import BundleError, PromptError
from pahi_rt.tokenizer import Tokenizer

LENGTH = 24
START, END = 541, 542


@pytest.fixture(scope="module")
def tokenizer(contract: Path) -> Tokenizer:
    return Tokenizer(contract / "tokenizer.json", LENGTH, pad_id=END)


def test_start_words_end_padding(tokenizer: Tokenizer) -> None:
    encoded = tokenizer.encode(["a red apple"])
    row = encoded.input_ids[0]
    assert encoded.input_ids.dtype == np.int64
    assert encoded.input_ids.shape == (1, LENGTH)
    assert row[0] == START
    assert list(row[4:]) == [END] * (LENGTH - 4)
    assert START not in row[1:]
    assert encoded.truncated == [False]


def test_padding_is_the_models_own(contract: Path) -> None:
    row = Tokenizer(contract / "tokenizer.json", LENGTH, pad_id=0).encode(["cat"]).input_ids[0]
    assert row[2] == END
    assert not row[3:].any()


def test_case_and_spaces_do_not_matter(tokenizer: Tokenizer) -> None:
    plain, loud = tokenizer.encode(["a red apple", "  A  Red\tAPPLE\n"]).input_ids
    np.testing.assert_array_equal(plain, loud)


def test_a_row_does_not_depend_on_the_batch(tokenizer: Tokenizer) -> None:
    prompts = ["cat", "a grinning cat of two", "dog " * 100]
    together = tokenizer.encode(prompts).input_ids
    for row, prompt in zip(together, prompts, strict=True):
        np.testing.assert_array_equal(row, tokenizer.encode([prompt]).input_ids[0])


@pytest.mark.parametrize(("words", "truncated"), [(LENGTH - 2, False), (LENGTH - 1, True), (5000, True)])
def test_a_long_prompt_is_cut_with_the_end_token_last(tokenizer: Tokenizer, words: int, truncated: bool) -> None:
    encoded = tokenizer.encode(["a " * words])
    assert encoded.truncated == [truncated]
    assert encoded.input_ids[0, 0] == START
    assert encoded.input_ids[0, -1] == END
    assert END not in encoded.input_ids[0, :-1]


@pytest.mark.parametrize("prompt", ["\N{RED APPLE}", "\u200b", "苹果", "x" * 10_000, "caf\u00e9", "<|endoftext|>"])
def test_unusual_prompts_are_read(tokenizer: Tokenizer, prompt: str) -> None:
    row = tokenizer.encode([prompt]).input_ids[0]
    assert row[0] == START
    assert row[-1] == END


@pytest.mark.parametrize(
    ("prompts", "what"),
    [
        ([], "no prompt"),
        ("a red apple", "list of strings"),
        (None, "list of strings"),
        ([""], "the prompt is empty"),
        (["cat", " \t\n"], "prompt 2 is empty"),
        (["cat", 3], "prompt 2 is not text but int"),
        ([b"cat"], "not text but bytes"),
        (["a\0cat"], "NUL"),
        (["a \udcff cat"], "not valid UTF-8"),
        (["a" * 1_000_001], "1000001 characters"),
    ],
)
def test_bad_prompts(tokenizer: Tokenizer, prompts: list[str], what: str) -> None:
    with pytest.raises(PromptError, match=what) as caught:
        tokenizer.encode(prompts)
    assert caught.value.fix
    assert "\n" not in caught.value.what


@pytest.mark.parametrize("content", [b"", b"{}", b"\xff\x00", b'{"model": 3}'])
def test_not_a_tokenizer(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "tokenizer.json"
    path.write_bytes(content)
    with pytest.raises(BundleError) as caught:
        Tokenizer(path, LENGTH, 0)
    assert caught.value.fix == "pip install --upgrade tokenizers, or export the bundle again"


def test_a_tokenizer_without_end_token_is_refused(tmp_path: Path) -> None:
    from tokenizers import Tokenizer as Rust
    from tokenizers import models

    path = tmp_path / "tokenizer.json"
    Rust(models.WordLevel({"cat": 0}, unk_token="cat")).save(str(path))
    with pytest.raises(BundleError) as caught:
        Tokenizer(path, LENGTH, 0)
    assert caught.value.fix == "export the bundle again"


def test_settings_inside_the_file_do_not_interfere(contract: Path, tmp_path: Path, tokenizer: Tokenizer) -> None:
    from tokenizers import Tokenizer as Rust

    other = Rust.from_file(str(contract / "tokenizer.json"))
    other.enable_truncation(5)
    other.enable_padding(length=40, pad_id=3)
    other.save(str(tmp_path / "tokenizer.json"))
    found = Tokenizer(tmp_path / "tokenizer.json", LENGTH, END).encode(["a red apple", "a " * 50])
    np.testing.assert_array_equal(found.input_ids, tokenizer.encode(["a red apple", "a " * 50]).input_ids)
    assert found.truncated == [False, True]
