"""A drawing: everything that it takes to draw the pictures of a PNG file again, kept in the file's text chunks."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from PIL import Image
from PIL.PngImagePlugin import PngInfo

from pahi_rt.errors import PahiError
from pahi_rt.manifest import GAUSSIAN, PRIORS

MOST_PICTURES = 1_000_000
"""The most pictures that one command draws, and that one file may ask for."""


@dataclass(frozen=True)
class Choice:
    """How pictures were chosen from several of each prompt. They are drawn again by their seeds, without choosing."""

    scorer: str
    """The name of the bundle's scorer."""
    candidates: int
    """Pictures that were drawn of each prompt, from the seeds first_seed, first_seed + 1, ..."""
    first_seed: int
    seeds: tuple[int, ...] = ()
    """Seeds of the pictures that were kept, prompt by prompt, the best first. Empty before they are drawn."""
    scores: tuple[float, ...] = ()

    def to_text(self) -> dict[str, str]:
        """Keyword -> content of the PNG's text chunks."""
        return {
            "scorer": self.scorer,
            "candidates": str(self.candidates),
            "candidates-seed": str(self.first_seed),
            "seeds": json.dumps(self.seeds),
            "scores": json.dumps(self.scores),
        }

    @classmethod
    def from_text(cls, text: Mapping[str, str], pictures: int) -> Choice | None:
        """Read the text chunks of a PNG with so many pictures; None if they were not chosen. Raises as Drawing does."""
        if "scorer" not in text:
            return None
        seeds, scores = json.loads(text["seeds"]), json.loads(text["scores"])
        for values, kind in ((seeds, int), (scores, float)):
            if not isinstance(values, list) or len(values) != pictures or not all(type(v) is kind for v in values):
                raise ValueError("no seed or no score for each picture")
        numbers = int(text["candidates"]), int(text["candidates-seed"])
        return cls(text["scorer"], *numbers, tuple(seeds), tuple(scores))


@dataclass(frozen=True)
class Drawing:
    """How the pictures of a file were drawn. With the same bundle, the same drawing gives the same pictures."""

    prompts: tuple[str, ...]
    seed: int
    """The seed of the first picture of every prompt; of the first picture, if they were chosen."""
    count: int
    """Pictures of each prompt, from the seeds seed, seed + 1, ...; those that were kept, if they were chosen."""
    steps: int
    """Denoising steps."""
    bundle: str
    """The bundle's name, not its path."""
    bundle_sha256: str
    """The sha256 of the bundle's pahi.json, which holds the sha256 of every other file."""
    version: str
    """The version of pahi-rt."""
    prior: str = GAUSSIAN
    """The prior that the noise was drawn from: "hi", "pahi" or "gaussian"."""
    prior_strength: float = 0.0
    """0..1; 0 for "gaussian"."""
    precision: str | None = None
    """One of the bundle's precisions. None is its default, as in files from before there were several."""
    choice: Choice | None = None
    """How the pictures were chosen, if there were more of them."""

    @property
    def pictures(self) -> int:
        """The number of pictures."""
        return len(self.prompts) * self.count

    @property
    def drawn(self) -> int:
        """The number of pictures that are drawn, those that are not kept included."""
        return len(self.prompts) * (self.count if self.choice is None else self.choice.candidates)

    def to_text(self) -> dict[str, str]:
        """Keyword -> content of the PNG's text chunks."""
        several = {} if len(self.prompts) == 1 else {"prompts": json.dumps(self.prompts, ensure_ascii=False)}
        # Standard Gaussian noise is not mentioned, as in files from before there were priors.
        prior = {} if self.prior == GAUSSIAN else {"prior": self.prior, "prior-strength": str(self.prior_strength)}
        return {
            "prompt": self.prompts[0],
            **several,
            "seed": str(self.seed),
            "count": str(self.count),
            "steps": str(self.steps),
            "bundle": self.bundle,
            "bundle-sha256": self.bundle_sha256,
            "pahi-rt": self.version,
            **prior,
            **({} if self.precision is None else {"precision": self.precision}),
            **({} if self.choice is None else self.choice.to_text()),
        }

    @classmethod
    def from_text(cls, text: Mapping[str, str]) -> Drawing:
        """Read the text chunks of a PNG. Raises KeyError or ValueError for chunks that `to_text` did not make."""
        prompts = json.loads(text["prompts"]) if "prompts" in text else [text["prompt"]]
        if not isinstance(prompts, list) or not all(isinstance(prompt, str) for prompt in prompts):
            raise ValueError("prompts is not a list of strings")
        seed, count, steps = (int(text[key]) for key in ("seed", "count", "steps"))
        if not (prompts and 0 < count * len(prompts) <= MOST_PICTURES):
            raise ValueError("no number of pictures that is ever drawn")
        made_by = text["bundle"], text["bundle-sha256"], text["pahi-rt"]
        choice = Choice.from_text(text, count * len(prompts))
        return cls(tuple(prompts), seed, count, steps, *made_by, *_read_prior(text), text.get("precision"), choice)


def _read_prior(text: Mapping[str, str]) -> tuple[str, float]:
    if "prior" not in text:
        return GAUSSIAN, 0.0
    prior, strength = text["prior"], float(text["prior-strength"])
    if prior not in PRIORS or not 0 <= strength <= 1:
        raise ValueError("no such prior, or a strength outside 0..1")
    return prior, strength


def encode_png(image: Image.Image, drawing: Drawing) -> bytes:
    """The PNG file of a picture, with its drawing in the text chunks."""
    info = PngInfo()
    for key, value in drawing.to_text().items():
        info.add_text(key, value)
    buffer = io.BytesIO()
    image.save(buffer, "PNG", pnginfo=info)
    return buffer.getvalue()


def read_drawing(path: Path) -> Drawing:
    """How a PNG was drawn. Raises PahiError for a file that does not say it, or that cannot be read."""
    try:
        with Image.open(path, formats=["PNG"]) as image:
            return Drawing.from_text({str(key): text for key, text in image.info.items() if isinstance(text, str)})
    except (KeyError, OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        if isinstance(error, OSError) and error.strerror:  # from the system rather than Pillow
            raise PahiError(f"{path} cannot be read: {error.strerror}", fix="check the path") from error
        fix = "name a PNG that `pahi-rt generate` wrote, unchanged: other programs drop its text chunks"
        raise PahiError(f"{path} does not say how it was made", fix=fix) from error
