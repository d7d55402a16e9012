"""One check for the tokenizers of all loaders: without their words, every prompt would be the same to them."""

from __future__ import annotations

import json
import shutil
from functools import partial
from pathlib import Path

import pytest
from transformers import BertTokenizer, CLIPTokenizer

from pahi_rt.errors import ModelError, PahiError
from pahi_rt.models.generators import load_generator
from pahi_rt.models.random_models import random_tokenizer, save_random_pipeline
from pahi_rt.models.vocabularies import has_vocabulary, read_tokenizer

refuse = partial(ModelError, fix="mend it")


@pytest.fixture(scope="module")
def intact(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_random_pipeline(tmp_path_factory.mktemp("intact"), "tiny-sdxl")


@pytest.fixture
def words(tmp_path: Path) -> Path:
    folder = tmp_path / "words"
    tokenizer = random_tokenizer(600, 24)
    tokenizer.save_pretrained(folder)
    tokenizer.backend_tokenizer.model.save(str(folder))
    return folder


@pytest.mark.parametrize("part", ["tokenizer", "tokenizer_2"])
@pytest.mark.parametrize("left", ["nothing", "tokenizer_config.json"])
def test_a_folder_without_a_vocabulary_is_named_as_the_fault(
    part: str, left: str, intact: Path, tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(intact, tmp_path / "model"))
    for path in (folder / part).iterdir():
        if path.name != left:
            path.unlink()
    with pytest.raises(ModelError, match=f"no vocabulary of a tokenizer in .*/{part}:") as caught:
        load_generator(folder)
    assert "eos_token_id" not in caught.value.fix


def test_one_of_the_known_layouts_is_enough(words: Path) -> None:
    expected = read_tokenizer(CLIPTokenizer, words, refuse)(["a red cat"]).input_ids
    (words / "tokenizer.json").rename(words / "kept")
    assert has_vocabulary(words)
    assert read_tokenizer(CLIPTokenizer, words, refuse)(["a red cat"]).input_ids == expected
    # Words alone: transformers would spell every prompt letter by letter.
    (words / "merges.txt").rename(words / "other")
    assert not has_vocabulary(words)
    (words / "kept").rename(words / "tokenizer.json")
    assert has_vocabulary(words)


def test_a_tokenizer_that_knows_no_word_is_refused(tmp_path: Path) -> None:
    (tmp_path / "vocab.txt").write_text("\n".join(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]))
    with pytest.raises(ModelError, match="takes different prompts for the same"):
        read_tokenizer(BertTokenizer, tmp_path, refuse)


@pytest.mark.parametrize("content", ["{", "[]", '{"model": 1}', ""])
def test_a_broken_vocabulary_is_one_line(words: Path, content: str) -> None:
    (words / "tokenizer.json").write_text(content)
    with pytest.raises(PahiError, match=f"cannot read the tokenizer in {words}: .") as caught:
        read_tokenizer(CLIPTokenizer, words, refuse)
    assert "\n" not in caught.value.what


def test_a_tokenizer_must_pad(words: Path) -> None:
    settings = json.loads((words / "tokenizer_config.json").read_text())
    (words / "tokenizer_config.json").write_text(json.dumps({**settings, "pad_token": None}))
    with pytest.raises(ModelError) as caught:
        read_tokenizer(CLIPTokenizer, words, refuse)
    assert caught.value.fix == "set tokenizer.pad_token and save it"
