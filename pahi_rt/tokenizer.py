"""Prompts -> token ids, with the bundle's own tokenizer (CLIP's byte-pair encoding)."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pahi_rt.errors import BundleError, PromptError

_LONGEST = 1_000_000
"""Characters that a prompt may have."""


@dataclass(frozen=True)
class Encoded:
    """Prompts as token ids."""

    input_ids: NDArray[np.int64]
    """[B, T]: start token, the prompt's tokens, end token, padding."""
    truncated: list[bool]
    """[B]: whether the prompt was longer than T, and was cut."""


class Tokenizer:
    """A tokenizer.json, with the length and the padding that the model was trained with.

    `file` is its path or its content. `max_length` (T) counts the start and the end token. Raises BundleError if the
    file is not a usable tokenizer.
    """

    def __init__(self, file: Path | bytes, max_length: int, pad_id: int) -> None:
        from tokenizers import Tokenizer as Encoder

        name = "the bundle's tokenizer.json" if isinstance(file, bytes) else file
        try:
            self._encoder = Encoder.from_buffer(file if isinstance(file, bytes) else file.read_bytes())
        except Exception as error:  # tokenizers raises a plain Exception for every reason
            fix = "pip install --upgrade tokenizers, or export the bundle again"
            raise BundleError(f"{name} is not a tokenizer: {error}", fix=fix) from error
        self._encoder.no_truncation()
        self._encoder.no_padding()
        self._special = self._encoder.num_special_tokens_to_add(False)
        self._max_length = max_length
        self._pad_id = pad_id
        if not 1 <= self._special < max_length:
            raise BundleError(f"{name} adds no end token to a prompt", fix="export the bundle again")

    def encode(self, prompts: Sequence[str]) -> Encoded:
        """Token ids [B, T]. A longer prompt is cut to T, with the end token last. Raises PromptError."""
        check_prompts(prompts)
        rows = [encoding.ids for encoding in map(self._encoder.encode, prompts)]
        for index, row in enumerate(rows):
            if len(row) <= self._special:
                raise PromptError(f"{_name(index, prompts)} holds nothing that can be read", fix="write some words")
        ids = np.full((len(rows), self._max_length), self._pad_id, np.int64)
        for target, row in zip(ids, rows, strict=True):
            kept = row if len(row) <= self._max_length else [*row[: self._max_length - 1], row[-1]]
            target[: len(kept)] = kept
        return Encoded(ids, [len(row) > self._max_length for row in rows])


def split_lines(text: str) -> list[str]:
    """Split text at \\n, \\r\\n and \\r, the line ends of all systems. Form feeds and the like do not end a line."""
    return re.split("\r\n|\r|\n", text)


def check_prompts(prompts: Sequence[str]) -> None:
    """Raises PromptError for an empty list, and for a prompt that is not text, blank, too long or not Unicode."""
    if isinstance(prompts, str) or not isinstance(prompts, Sequence):
        raise PromptError("prompts must be a list of strings", fix='pass ["a red apple"]')
    if not prompts:
        raise PromptError("there is no prompt", fix="give at least one, such as 'a red apple'")
    for index, prompt in enumerate(prompts):
        _check_prompt(prompt, _name(index, prompts))


def _check_prompt(prompt: object, name: str) -> None:
    if not isinstance(prompt, str):
        raise PromptError(f"{name} is not text but {type(prompt).__name__}", fix="pass strings")
    if not prompt.strip():
        raise PromptError(f"{name} is empty", fix="describe a picture, such as 'a red apple'")
    if len(prompt) > _LONGEST:
        raise PromptError(f"{name} has {len(prompt)} characters", fix="shorten it; a few words are enough")
    if "\0" in prompt:
        raise PromptError(f"{name} holds a NUL byte", fix="remove it; is the file binary?")
    try:
        prompt.encode()
    except UnicodeEncodeError as error:
        raise PromptError(f"{name} is not valid UTF-8", fix="save or type it as UTF-8") from error


def _name(index: int, prompts: Sequence[str]) -> str:
    return "the prompt" if len(prompts) == 1 else f"prompt {index + 1}"
