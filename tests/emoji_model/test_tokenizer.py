from pathlib import Path

from emoji_model import tokenizer
from pahi_rt.tokenizer import Tokenizer

CAPTIONS = ["a grinning cat", "an emoji of a red apple", "cute panda", "noto style fox"] * 20


def test_any_text_has_tokens_and_known_words_have_one(tmp_path: Path) -> None:
    words = tokenizer.train(CAPTIONS, tmp_path)
    assert words.tokenize("Grinning CAT") == ["grinning</w>", "cat</w>"]
    assert words.pad_token_id == 0
    assert (words.bos_token_id, words.eos_token_id) == (len(words) - 2, len(words) - 1)
    ids = words("😺 ñ 字 \x01 zebra")["input_ids"]
    assert words.unk_token_id not in ids[1:-1]


def test_saved_tokeniser_is_read_back_and_agrees_with_the_runtime(tmp_path: Path) -> None:
    trained = tokenizer.train(CAPTIONS, tmp_path)
    loaded = tokenizer.load(tmp_path)
    runtime = Tokenizer(tmp_path / "tokenizer.json", tokenizer.POSITIONS, 0)
    for text in ("a grinning cat", "Noto style 😺 fox!!", "red " * 40):
        ids = loaded(text, padding="max_length", truncation=True, max_length=tokenizer.POSITIONS)["input_ids"]
        assert ids == trained(text, padding="max_length", truncation=True, max_length=tokenizer.POSITIONS)["input_ids"]
        assert runtime.encode([text]).input_ids[0].tolist() == ids
