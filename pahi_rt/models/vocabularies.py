"""Tokenizers of other people's models: read with transformers, and shown to know words before anything believes them.

Without its files transformers makes a tokenizer that reads every word as the same token, and says nothing.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pahi_rt.models.foreign import Refuse, foreign

VOCABULARIES = (("tokenizer.json",), ("vocab.json", "merges.txt"), ("vocab.txt",))
"""Files of which a tokenizer has at least one group."""
_TWO_PROMPTS = ("a", "the")
"""Of as many words, which every vocabulary tells apart."""


def has_vocabulary(folder: Path) -> bool:
    """Whether a folder holds the words of a tokenizer."""
    return any(all((folder / name).is_file() for name in names) for names in VOCABULARIES)


def read_tokenizer(kind: Any, folder: Path, refuse: Refuse) -> Any:
    """The tokenizer of class `kind` in a folder.

    Raises `refuse(...)` if it is missing, has no vocabulary, cannot be read, cannot pad, or takes two different prompts
    for the same.
    """
    if not has_vocabulary(folder):
        groups = ", ".join(" with ".join(names) for names in VOCABULARIES)
        raise refuse(f"there is no vocabulary of a tokenizer in {folder}: none of {groups}")
    with foreign(f"the tokenizer in {folder}", refuse):
        tokenizer = kind.from_pretrained(folder)
        first, second = tokenizer(list(_TWO_PROMPTS)).input_ids
    if first == second:
        raise refuse(f"the tokenizer in {folder} takes different prompts for the same: it does not know their words")
    if tokenizer.pad_token_id is None:
        raise refuse(f"the tokenizer in {folder} has no padding token", fix="set tokenizer.pad_token and save it")
    return tokenizer
