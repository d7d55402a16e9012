"""The best of several: a request with `candidates` is drawn with all of them, and answered with those that stay."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field, replace

from pahi_rt.judge import Judge, rank
from pahi_rt.serve.queue import Drawn
from pahi_rt.serve.requests import Order


@dataclass
class Judges:
    """The scorers of all models, loaded as they are first asked for."""

    _loaded: dict[tuple[str, str], Judge] = field(default_factory=dict)
    _loading: threading.Lock = field(default_factory=threading.Lock)

    def choose(self, order: Order, drawn: Drawn) -> tuple[Order, Drawn]:
        """The order of those pictures that stay, the best of each prompt first, and these.

        Raises BundleError, RuntimeUnavailable, and RequestError for a prompt that the scorer cannot read.
        """
        if order.choice is None:
            return order, drawn
        started = time.perf_counter()
        judge = self._judge(order, order.choice.scorer)
        prompts = [order.prompts[shot.index] for shot in order.shots]
        scores = judge.score(drawn.images, prompts)
        starts = range(0, len(scores), order.choice.candidates)
        groups = [(start, scores[start : start + order.choice.candidates]) for start in starts]
        kept = [start + index for start, group in groups for index in rank(group, order.keep)]
        shots = tuple(replace(order.shots[index], score=scores[index]) for index in kept)
        score_ms = 1000 * (time.perf_counter() - started)
        images = [drawn.images[index] for index in kept]
        return replace(order, shots=shots), replace(drawn, images=images, score_ms=score_ms)

    def _judge(self, order: Order, scorer: str) -> Judge:
        key = order.model.name, scorer
        with self._loading:
            if key not in self._loaded:
                self._loaded[key] = Judge.load(order.model.bundle, scorer, threads=order.model.settings.threads)
            return self._loaded[key]
