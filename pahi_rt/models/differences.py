"""The intended differences between a picture drawn here and one that diffusers' pipeline draws from the same noise.

Apart from these the two are equal, at guidance 0, or at `GUIDANCE_SCALE` for UNets that take a guidance scale as an
input. The parity check of an export compares with diffusers' pipeline after making these changes to it; the manifest
lists the ones that apply.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from diffusers import EulerAncestralDiscreteScheduler, LCMScheduler


@dataclass(frozen=True)
class Difference:
    """One intended difference, its reason, and where it applies."""

    what: str
    """The wording in manifests."""
    why: str
    applies: Callable[[dict[str, Any], int], bool]
    """(parts of a model, named as in its model_index.json; number of sampling steps) -> whether it applies."""


def _is_sdxl(parts: dict[str, Any]) -> bool:
    return "text_encoder_2" in parts


DIFFERENCES = (
    Difference(
        what="no fresh noise between steps",
        why="Euler's method takes the place of the ancestral one, so that a picture comes from its noise alone, and a"
        " prior decides all of it",
        applies=lambda parts, steps: steps > 1 and isinstance(parts["scheduler"], EulerAncestralDiscreteScheduler),
    ),
    Difference(
        what="the first noise again between steps",
        why="an LCM must have noise added; fresh noise would have to come from a random generator inside the graph",
        applies=lambda parts, steps: steps > 1 and isinstance(parts["scheduler"], LCMScheduler),
    ),
    Difference(
        what='every "!" of a prompt is a word',
        why="diffusers' second tokenizer takes it for padding, because its pad token is spelt so; OpenCLIP, with which"
        " the encoder was trained, does not",
        applies=lambda parts, _: _is_sdxl(parts) and parts["tokenizer_2"].pad_token == "!",
    ),
    Difference(
        what="no watermark",
        why="diffusers adds one where the package invisible-watermark is installed, and changes pixels",
        applies=lambda parts, _: _is_sdxl(parts),
    ),
    Difference(
        what="no safety checker",
        why="it is a second model, which turns pictures black after they were drawn",
        applies=lambda parts, _: not _is_sdxl(parts),
    ),
)


def differences(parts: dict[str, Any], steps: int) -> list[str]:
    """The `what` of each difference that applies to a model of these parts with this number of sampling steps."""
    return [difference.what for difference in DIFFERENCES if difference.applies(parts, steps)]
