"""A judge: one of a bundle's preference scorers, loaded to say which picture of a prompt is best. It needs no PyTorch.

judge = Judge.load("emoji")
judge.score([picture], ["a red apple"])     # [0.83], higher is better, in judge.unit
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from pahi_rt.assets import DEFAULT
from pahi_rt.bundle import Bundle, open_bundle
from pahi_rt.errors import BundleError, RequestError, RuntimeUnavailable
from pahi_rt.manifest import IDS, IMAGE, SCORE, ScorerSpec
from pahi_rt.runtimes.onnxruntime import open_session, session_options
from pahi_rt.runtimes.providers import CPU, own_errors, reason
from pahi_rt.tokenizer import Tokenizer


class Judge:
    """A scorer in ONNX Runtime, on the CPU. `load` makes it; `score` may be called from several threads."""

    def __init__(self, name: str, spec: ScorerSpec, session: Any, tokenizer: Tokenizer | None) -> None:
        self.name = name
        self.unit = spec.unit
        self._size = spec.inputs[0].shape[1:]
        self._session = session
        self._tokenizer = tokenizer

    @classmethod
    def load(
        cls, bundle: str | Path | Bundle = DEFAULT, scorer: str | None = None, *, threads: int | None = None
    ) -> Judge:
        """Load a bundle's scorer of that name, or its first. Raises BundleError, RuntimeUnavailable."""
        opened = bundle if isinstance(bundle, Bundle) else open_bundle(bundle)
        name = opened.choose_scorer(scorer)
        spec = opened.scorers[name]
        own = spec.tokenizer
        tokenizer = None if own is None else Tokenizer(opened.read(own.file), own.max_length, own.pad_id)
        with opened.opened(spec) as graph:
            session = open_session(graph, session_options(threads), CPU)
        return cls(name, spec, session, tokenizer)

    def score(self, images: Sequence[Image.Image], prompts: Sequence[str]) -> list[float]:
        """The score of each picture for its prompt, in `unit`; higher is better.

        Each is scored alone, so that its score does not depend on the others. Raises RequestError for a picture of
        another size than the bundle's, PromptError, BundleError for a graph that gives no number, RuntimeUnavailable.
        """
        if len(images) != len(prompts):
            raise RequestError(f"{len(prompts)} prompts for {len(images)} pictures", fix="give one for each picture")
        ids = None if self._tokenizer is None or not images else self._tokenizer.encode(prompts).input_ids
        rows = [None] * len(images) if ids is None else [ids[index : index + 1] for index in range(len(images))]
        return [self._score(image, row) for image, row in zip(images, rows, strict=True)]

    def _score(self, image: Image.Image, ids: Any) -> float:
        picture = np.asarray(image)
        if picture.dtype != np.uint8 or picture.shape != self._size:
            what = f"the scorer {self.name} takes RGB pictures of {self._size[0]}x{self._size[1]} pixels"
            raise RequestError(what, fix="score pictures that its own bundle draws")
        feeds = {IMAGE: picture[None], **({} if ids is None else {IDS: ids})}
        try:
            found = np.asarray(self._session.run([SCORE], feeds)[0])
        except own_errors() as error:
            what = f"ONNX Runtime cannot score a picture: {reason(error)}"
            raise RuntimeUnavailable(what, fix="free memory, or export the scorer again") from error
        if found.dtype != np.float32 or found.shape != (1,) or not math.isfinite(found[0]):
            raise BundleError(f"the scorer {self.name} gives no score", fix="export it again")
        return float(found[0])


def check_candidates(count: int, candidates: int | None, keep: int | None) -> int:
    """How many pictures of a prompt stay: `keep`, by default 1, of `candidates`; `count` without candidates.

    Raises RequestError if they do not fit together.
    """
    if candidates is None:
        if keep is not None:
            raise RequestError("there are no candidates to keep some of", fix="say how many to draw: --candidates")
        return count
    kept = 1 if keep is None else keep
    for number in (candidates, kept):
        if isinstance(number, bool) or not isinstance(number, int) or number < 1:
            raise RequestError(f"no number of pictures: {str(number)[:40]}", fix="use 1 or more")
    if kept > candidates:
        raise RequestError(f"{kept} pictures cannot be kept of {candidates}", fix="draw more candidates, or keep fewer")
    if count != 1:
        what = f"{count} pictures of each prompt are asked for, and the best of {candidates} as well"
        raise RequestError(what, fix="leave the count out: keep says how many of the candidates stay")
    return kept


def rank(scores: Sequence[float], keep: int) -> list[int]:
    """The indices of the `keep` highest scores, the best first; of equal ones the earlier."""
    return sorted(range(len(scores)), key=lambda index: (-scores[index], index))[:keep]
