"""Stage `tokenizer`: learns a byte-pair tokenizer in CLIP's format for the few thousand words of the captions."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

from tokenizers import Tokenizer, models, pre_tokenizers, trainers
from transformers import CLIPTokenizer

from emoji_model.trainer import left_by
from pahi_rt.scratch import scratch

ENTRIES = 4096
"""Size of the vocabulary that is learned, start and end included."""
POSITIONS = 28
"""Tokens of a caption, start and end included. The last 16 also hold a sketch of the picture (text.py): the cells that
stand before a caption's last word do not know it. That happens to one composed caption in fifty."""
PAD, START, END = "!", "<|startoftext|>", "<|endoftext|>"
"""The pad token has id 0, start and end are the last two ids: as in SD-Turbo's tokenizer."""


def train(captions: Iterable[str], folder: Path) -> CLIPTokenizer:
    """Learn merges from captions and save the tokenizer in transformers' format, as a new folder."""
    # Take the normaliser and pre-tokenizer of an empty CLIPTokenizer, so that words are split exactly as in CLIP.
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
    """Load the tokenizer. Raises PahiError if the stage has not run."""
    return CLIPTokenizer.from_pretrained(left_by(folder.name, folder))


def _assemble(learner: Tokenizer) -> CLIPTokenizer:
    model = json.loads(learner.to_str())["model"]
    merges = [tuple(merge) if isinstance(merge, list) else tuple(merge.split(" ")) for merge in model["merges"]]
    letters = [PAD, *(symbol for symbol in _alphabet() if symbol != PAD)]
    # Add every byte, alone and at the end of a word, even if no caption holds it: then no text is unknown.
    tokens = letters + [f"{letter}</w>" for letter in letters] + ["".join(merge) for merge in merges]
    tokens = list(dict.fromkeys(tokens)) + [START, END]
    vocabulary = {token: number for number, token in enumerate(tokens)}
    return CLIPTokenizer(vocab=vocabulary, merges=merges, unk_token=END, pad_token=PAD, model_max_length=POSITIONS)


def _alphabet() -> list[str]:
    return sorted(pre_tokenizers.ByteLevel.alphabet())
