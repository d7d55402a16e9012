"""A sample: one picture of the output with its facts, or the reason why it could not be drawn."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

SUCCESS, FAILED = "success", "failed"
"""What the column "status" says."""


@dataclass(frozen=True)
class Sample:
    """One picture, or one that failed."""

    key: str
    id: str
    caption: str
    seed: int | None
    """None if it failed before it had one."""
    error_message: str | None = None
    """Why it failed; None if it did not."""
    image: bytes | None = None
    """The encoded file."""
    sha256: str | None = None
    """Hash of the encoded file."""
    pixels_sha256: str | None = None
    """Hash of the pixels, 8-bit RGB row by row, whatever the format of the file."""
    width: int | None = None
    height: int | None = None
    truncated: bool | None = None
    """Whether the prompt is longer than the model reads, so that its end was cut."""
    score: float | None = None
    """What the scorer gave it, if it was chosen."""
    more: Mapping[str, Any] = field(default_factory=dict)
    """The additional columns."""

    def facts(self) -> dict[str, Any]:
        """Column -> value, without the picture."""
        return {
            "key": self.key,
            "id": clean(self.id),
            "caption": clean(self.caption),
            "seed": self.seed,
            "status": SUCCESS if self.error_message is None else FAILED,
            "error_message": None if self.error_message is None else clean(self.error_message),
            "sha256": self.sha256,
            "pixels_sha256": self.pixels_sha256,
            "width": self.width,
            "height": self.height,
            "truncated": self.truncated,
            **({} if self.score is None else {"score": self.score}),
            **{name: clean(value) if isinstance(value, str) else value for name, value in self.more.items()},
        }


def clean(text: str) -> str:
    """The text as valid Unicode: bytes that are not UTF-8 become escapes."""
    return text.encode("utf-8", "backslashreplace").decode()
