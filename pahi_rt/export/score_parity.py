"""The gate that every scorer's graph passes before it is shipped: does it score what PyTorch scores?

The pictures have edges as sharp as pixels, noise and plain areas; the prompts are those of the gate of generators, and
those that tell tokenizers apart. PyTorch is given prompts, the graph is given token ids of the tokenizer that is saved.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from pahi_rt.errors import ParityError
from pahi_rt.export.drawing import open_file_session
from pahi_rt.export.inputs import PROMPTS
from pahi_rt.export.precision import ALL
from pahi_rt.export.rounding import round_matrices
from pahi_rt.export.tokenizer import SAMPLES
from pahi_rt.manifest import IDS, IMAGE, SCORE, ScoreParity, TokenizerSpec
from pahi_rt.noise import draw_noise
from pahi_rt.scorers import Portable
from pahi_rt.tokenizer import Tokenizer

TEXTS = (*PROMPTS, *SAMPLES)
SAME_ARITHMETIC, ROUNDED, ANY_BATCH = 0.01, 0.1, 0.001
"""Largest differences, as logits of a preference: 0.01 moves a preference of 50 % to 50.25 %, 0.1 to 52.5 %."""
TOGETHER = 3
"""Pictures that are also scored in one batch."""
_BLOCKS = 8
_NOISE = 0.1


@dataclass(frozen=True)
class Samples:
    """What is scored: N pictures, each with a prompt."""

    pictures: NDArray[np.uint8]
    """[N, H, W, 3]"""
    prompts: tuple[str, ...]
    input_ids: NDArray[np.int64] | None
    """[N, T] of the saved tokenizer; None if the scorer does not read prompts."""

    def feeds(self, rows: slice) -> dict[str, NDArray[Any]]:
        """Inputs of the graph."""
        ids = {} if self.input_ids is None else {IDS: self.input_ids[rows]}
        return {IMAGE: self.pictures[rows], **ids}

    def tensors(self) -> Iterator[tuple[Tensor, Tensor | None, str]]:
        """Picture [1, 3, H, W] in [0, 1], token ids [1, T] and prompt, one by one."""
        for index, prompt in enumerate(self.prompts):
            picture = torch.from_numpy(self.pictures[index : index + 1]).permute(0, 3, 1, 2) / 255
            ids = None if self.input_ids is None else torch.from_numpy(self.input_ids[index : index + 1])
            yield picture, ids, prompt


@dataclass(frozen=True)
class ScoreReference:
    """What a graph's scores are compared with."""

    against: str
    scores: NDArray[np.float64]
    most_logits: float
    """Largest difference, times the scorer's scale."""


def make_samples(folder: Path, tokenizer: TokenizerSpec | None, height: int, width: int) -> Samples:
    """Fixed pictures of this size and prompts, with token ids of the tokenizer that was saved in `folder`."""
    pictures = np.stack([draw_sample(seed, height, width) for seed in range(len(TEXTS))])
    if tokenizer is None:
        return Samples(pictures, TEXTS, None)
    reader = Tokenizer(folder / tokenizer.file, tokenizer.max_length, tokenizer.pad_id)
    return Samples(pictures, TEXTS, reader.encode(TEXTS).input_ids)


def draw_sample(seed: int, height: int, width: int) -> NDArray[np.uint8]:
    """A picture [H, W, 3] of coloured blocks, half of it with noise."""
    blocks = draw_noise([seed], (3, _BLOCKS, _BLOCKS))[0]
    rows, columns = (np.arange(edge) * _BLOCKS // edge for edge in (height, width))
    picture = 0.5 + 0.4 * blocks[:, rows][:, :, columns]
    picture[:, height // 2 :] += _NOISE * draw_noise([seed + 1000], (3, height, width))[0][:, height // 2 :]
    levels: NDArray[np.uint8] = np.rint(255 * picture.clip(0, 1)).astype(np.uint8).transpose(1, 2, 0)
    return np.ascontiguousarray(levels)


@torch.no_grad()
def list_scores(scorer: Portable, samples: Samples, precision: str) -> list[ScoreReference]:
    """What a graph has to score: what the scorer says as it is and, for rounded matrices, with those.

    Leaves the scorer's matrices as the precision rounds them.
    """
    trained = np.array([float(scorer.score(picture, [prompt])) for picture, _, prompt in samples.tensors()])
    notes = "".join(f"; {note}" for note in scorer.unported)
    to = ALL[precision].round
    if to is None:
        return [ScoreReference(f"PyTorch fp32{notes}", trained, SAME_ARITHMETIC)]
    round_matrices(cast(nn.Module, scorer), to)
    # By token ids: what was embedded of prompts may be kept.
    rounded = np.array([float(scorer.score_ids(picture, cast(Tensor, ids))) for picture, ids, _ in samples.tensors()])
    return [
        ScoreReference("PyTorch fp32, matrices rounded", rounded, SAME_ARITHMETIC),
        ScoreReference(f"PyTorch fp32, weights as trained{notes}", trained, ROUNDED),
    ]


def check_scores(
    path: Path, samples: Samples, references: Sequence[ScoreReference], scale: float
) -> tuple[ScoreParity, ...]:
    """Compare a graph with its references, and with itself in a batch. Raises ParityError."""
    session = open_file_session(path)

    def run(rows: slice) -> NDArray[np.float64]:
        return np.asarray(session.run([SCORE], samples.feeds(rows))[0], np.float64)

    alone = np.concatenate([run(slice(index, index + 1)) for index in range(len(samples.prompts))])
    batch = run(slice(0, TOGETHER))
    itself = ScoreReference(f"itself, batch {TOGETHER} and batch 1", alone[:TOGETHER], ANY_BATCH)
    rows = [compare_scores(path.name, alone, reference, scale) for reference in references]
    return (*rows, compare_scores(path.name, batch, itself, scale))


def compare_scores(graph: str, scores: NDArray[np.float64], reference: ScoreReference, scale: float) -> ScoreParity:
    """One row of the manifest. Raises ParityError if a score is too far away, or not a number."""
    error = float(np.abs(scores - reference.scores).max())
    tolerance = f"max error <= {reference.most_logits / scale:.3g}, {reference.most_logits:g} as a logit of preference"
    if not error * scale <= reference.most_logits:  # nor is anything that is not a number
        raise ParityError(
            f"{graph} is not {reference.against}: max error {error:.3g}; required: {tolerance}",
            fix="export with --precision fp32 or with another opset, and report the scorer if that fails too",
        )
    return ScoreParity(reference.against, len(scores), error, tolerance)
