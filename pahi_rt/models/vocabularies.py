"""Reads the tokenizers of published models with transformers, and checks that they know words.

Where the files are missing, transformers silently makes a tokenizer that reads every word as the same token.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pahi_rt.models.foreign import Refuse, foreign

VOCABULARIES = (("tokenizer.json",), ("vocab.json", "merges.txt"), ("vocab.txt",))
"""Groups of files; a tokenizer needs at least one of them complete."""
_TWO_PROMPTS = ("a", "the")
"""Two prompts of equal length that every vocabulary tells apart."""


def has_vocabulary(folder: Path) -> bool:
    """Whether a folder holds the vocabulary of a tokenizer."""
    return any(all((folder / name).is_file() for name in names) for names in VOCABULARIES)


def read_tokenizer(kind: Any, folder: Path, refuse: Refuse) -> Any:
    """Load the tokenizer of class `kind` in a folder.

    Raises `refuse(...)` if it is missing or unreadable, has no vocabulary or no padding token, or gives two different
    prompts the same ids.
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
