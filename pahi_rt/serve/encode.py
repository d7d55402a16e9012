"""Drawn pictures as files, and what a reply says of them."""

from __future__ import annotations

import base64
import io
import time
from dataclasses import dataclass
from typing import Any

from PIL import Image

from pahi_rt.drawing import encode_png
from pahi_rt.serve.models import unknown_words
from pahi_rt.serve.queue import Drawn
from pahi_rt.serve.requests import Order

QUALITY = 90
"""Quality of webp and jpeg, where a request does not ask for one."""


@dataclass(frozen=True)
class Reply:
    """An order with its pictures as files."""

    order: Order
    files: list[bytes]
    unknown: list[dict[str, Any]]
    timing: dict[str, float]
    """Milliseconds: queue_ms, tokenise_ms, run_ms, score_ms if there are candidates, and encode_ms."""

    @property
    def type(self) -> str:
        """The media type of the files."""
        return f"image/{self.order.format}"

    @property
    def headers(self) -> dict[str, str]:
        """What every reply with pictures carries."""
        timing = ", ".join(f"{name.removesuffix('_ms')};dur={value:.2f}" for name, value in self.timing.items())
        return {"Server-Timing": timing, **self.order.headers}

    def describe(self) -> dict[str, Any]:
        """The reply without its files, as JSON on our own routes."""
        choice = self.order.choice
        return {
            "model": self.order.model.name,
            "sha256": self.order.model.sha256,
            "seed": self.order.seed,
            "steps": self.order.chosen.graph.steps,
            "prior": self.order.chosen.prior,
            **({} if choice is None else {"scorer": choice.scorer, "candidates": choice.candidates}),
            "pictures": [self._describe(index) for index in range(len(self.files))],
            "unknown_words": self.unknown,
            "timing": {name: round(value, 3) for name, value in self.timing.items()},
        }

    def describe_with_files(self) -> dict[str, Any]:
        """The same with each file in base64."""
        described = self.describe()
        for picture, file in zip(described["pictures"], self.files, strict=True):
            picture["b64"] = base64.b64encode(file).decode()
        return described

    def _describe(self, index: int) -> dict[str, Any]:
        shot, (width, height) = self.order.shots[index], self.order.model.size
        return {
            "prompt": self.order.prompts[shot.index],
            "truncated": self.order.truncated[shot.index],
            "seed": shot.seed,
            **({} if shot.score is None else {"score": shot.score}),
            "prior_strength": shot.strength,
            "width": width,
            "height": height,
            "type": self.type,
            "bytes": len(self.files[index]),
        }


def encode(order: Order, drawn: Drawn) -> Reply:
    """Make files of an order's pictures, and look up the words that its model does not know."""
    started = time.perf_counter()
    files = [_encode(image, order, index) for index, image in enumerate(drawn.images)]
    unknown = unknown_words(order.model, order.prompts)
    timing = {
        "queue_ms": drawn.queue_ms,
        "tokenise_ms": order.tokenise_ms,
        "run_ms": drawn.run_ms,
        **({} if drawn.score_ms is None else {"score_ms": drawn.score_ms}),
        "encode_ms": 1000 * (time.perf_counter() - started),
    }
    return Reply(order, files, unknown, timing)


def _encode(image: Image.Image, order: Order, index: int) -> bytes:
    if order.format == "png":
        return encode_png(image, order.drawing(order.shots[index]))
    buffer = io.BytesIO()
    image.save(buffer, order.format.upper(), quality=order.quality or QUALITY)
    return buffer.getvalue()
