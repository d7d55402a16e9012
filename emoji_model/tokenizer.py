"""Stage `tokenizer`: a CLIP-format byte-pair tokeniser for the captions' few thousand words."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

from tokenizers import Tokenizer, models, pre_tokenizers, trainers
from transformers import CLIPTokenizer

from emoji_model.trainer import left_by
from pahi_rt.scratch import scratch

ENTRIES = 4096
POSITIONS = 24
"""Tokens of a caption, start and end included."""
PAD, START, END = "!", "<|startoftext|>", "<|endoftext|>"
"""The pad token has id 0, start and end are the last two ids: as in SD-Turbo's tokeniser."""


def train(captions: Iterable[str], folder: Path) -> CLIPTokenizer:
    """Learn merges from captions and save the tokeniser in transformers' format, as a new folder."""
    # The empty model lends its normaliser and pre-tokeniser, so that the words are split exactly as CLIP's are.
    clip = CLIPTokenizer(vocab={PAD: 0, START: 1, END: 2}, merges=[]).backend_tokenizer
    learner = Tokenizer(models.BPE(end_of_word_suffix="</w>"))
    learner.normalizer, learner.pre_tokenizer = clip.normalizer, clip.pre_tokenizer
    trainer = trainers.BpeTrainer(
        vocab_size=ENTRIES - 2, initial_alphabet=_alphabet(), end_of_word_suffix="</w>", show_progress=False
    )
    learner.train_from_iterator(captions, trainer)
    tokenizer = _assemble(learner)
    with scratch(folder, "write") as made:
        tokenizer.save_pretrained(made / folder.name)
        (made / folder.name).rename(folder)
    return tokenizer


def load(folder: Path) -> CLIPTokenizer:
    """PahiError if the stage has not run."""
    return CLIPTokenizer.from_pretrained(left_by(folder.name, folder))


def _assemble(learner: Tokenizer) -> CLIPTokenizer:
    model = json.loads(learner.to_str())["model"]
    merges = [tuple(merge) if isinstance(merge, list) else tuple(merge.split(" ")) for merge in model["merges"]]
    letters = [PAD, *(symbol for symbol in _alphabet() if symbol != PAD)]
    # Every byte alone and at the end of a word, whether a caption held it or not: no text is unknown.
    tokens = letters + [f"{letter}</w>" for letter in letters] + ["".join(merge) for merge in merges]
    tokens = list(dict.fromkeys(tokens)) + [START, END]
    vocabulary = {token: number for number, token in enumerate(tokens)}
    return CLIPTokenizer(vocab=vocabulary, merges=merges, unk_token=END, pad_token=PAD, model_max_length=POSITIONS)


def _alphabet() -> list[str]:
    return sorted(pre_tokenizers.ByteLevel.alphabet())
