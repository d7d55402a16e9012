"""Draws what the stages learn from: captions, what the cells of their pictures show, noise, and what both ask for."""

from __future__ import annotations

import random
from dataclasses import dataclass, fields

import torch
from transformers import CLIPTokenizer

from emoji_model import coupling
from emoji_model.captions import Captions
from emoji_model.codes import code
from emoji_model.encoded import OPEN, EncodedScenes
from emoji_model.scenes import Scene, Thing
from emoji_model.sources import STYLES
from emoji_model.targets import Targets
from emoji_model.text import tokens

PLAIN, SEVERAL = 0.3, 0.35
"""Shares of a batch: captions of one concept (captions.py), scenes of several things. The rest are scenes of one."""
NAMED = 0.35
"""Share of the plain captions that name the drawing style."""


@dataclass(frozen=True)
class Batch:
    """B captions, their noise, and their targets."""

    input_ids: torch.Tensor
    """int64 [B, POSITIONS]."""
    codes: torch.Tensor
    """int64 [B, CELLS, 5]: what each cell shows (codes.py)."""
    content: torch.Tensor
    """[B, styles * C + 1, h, w]: what the text embedding is to hold. First the latents on tint 0 in every style, or in
    the one that the caption names, repeated; then 1 where the noise decides the tint, otherwise 0."""
    noise: torch.Tensor
    """[B, C, h, w]."""
    latents: torch.Tensor
    """[B, C, h, w]: the target that caption and noise ask for."""
    styles: torch.Tensor
    """[B, styles, C, h, w]: the same picture on the same tint, in every style, or the named one repeated."""


class Sampler:
    """Draws batches from the targets of all concepts, and from composed scenes."""

    def __init__(self, targets: Targets, encoded: EncodedScenes, captions: Captions, tokenizer: CLIPTokenizer) -> None:
        self.targets, self.encoded, self.captions, self.tokenizer = targets, encoded, captions, tokenizer
        several = encoded.things > 1
        self._several, self._single = several.nonzero().flatten(), (~several).nonzero().flatten()

    def draw(self, count: int, rng: torch.Generator) -> Batch:
        """Draw `count` samples; the plain ones come first, then those of several things."""
        plain, several = (round(count * share) for share in (PLAIN, SEVERAL))
        return join(
            self.draw_plain(plain, rng),
            self.draw_composed(_pick(self._several, several, rng), rng),
            self.draw_composed(_pick(self._single, count - plain - several, rng), rng),
        )

    def draw_plain(self, count: int, rng: torch.Generator) -> Batch:
        """Draw `count` captions of one concept."""
        concepts, styles, variants = (
            torch.randint(size, (count,), generator=rng) for size in self.targets.latents.shape[:3]
        )
        python_rng, names = random.Random(int(torch.randint(2**62, (), generator=rng))), list(STYLES)
        named = torch.where(torch.rand(count, generator=rng) < NAMED, styles, OPEN)
        drawn = [
            self.captions.draw(concept, None if style == OPEN else names[style], python_rng)
            for concept, style in zip(concepts.tolist(), named.tolist(), strict=True)
        ]
        noise = torch.randn(count, *self.targets.latents.shape[3:], generator=rng)
        values = self.targets.values[concepts, variants]
        # A style that the caption does not name is the one that was drawn: so each is drawn as often.
        free = coupling.read(noise)
        asked = torch.where((named == OPEN)[:, None], coupling.with_style(free, styles), free)
        values[:, coupling.STYLE] = asked[:, coupling.STYLE]
        codes = [
            code(Scene((Thing(concept),), style=None if style == OPEN else style))
            for concept, style in zip(concepts.tolist(), named.tolist(), strict=True)
        ]
        return _batch(
            tokens(self.tokenizer, [d.text for d in drawn]), torch.stack(codes), self.targets.plain[concepts],
            torch.ones(count), self.targets.latents[concepts, :, variants], named, noise, values,
        )  # fmt: skip

    def draw_composed(self, rows: torch.Tensor, rng: torch.Generator) -> Batch:
        """The scenes `rows` int64 [B], with noise that asks for their tint, in the style that the noise asks for."""
        made = self.encoded
        noise = torch.randn(len(rows), *made.latents.shape[2:], generator=rng)
        values = coupling.read(noise)
        values[:, coupling.TINT] = torch.where(
            made.grounded[rows, None], values[:, coupling.TINT], made.values[rows][:, coupling.TINT]
        )
        return _batch(
            made.input_ids[rows].long(), made.codes[rows].long(), made.plain[rows], (~made.grounded[rows]).float(),
            made.latents[rows], made.style[rows].long(), noise, values,
        )  # fmt: skip


def of_style(every: torch.Tensor, styles: torch.Tensor) -> torch.Tensor:
    """From pictures in every style [B, styles, ...], those of the styles int64 [B]: [B, ...]."""
    return every[torch.arange(len(styles)), styles]


def join(*batches: Batch) -> Batch:
    """Batches one after the other."""
    return Batch(**{f.name: torch.cat([getattr(batch, f.name) for batch in batches]) for f in fields(Batch)})


def _pick(numbers: torch.Tensor, count: int, rng: torch.Generator) -> torch.Tensor:
    return numbers[torch.randint(len(numbers), (count,), generator=rng)]


def _batch(
    input_ids: torch.Tensor, codes: torch.Tensor, plain: torch.Tensor, tinted: torch.Tensor, latents: torch.Tensor,
    named: torch.Tensor, noise: torch.Tensor, values: torch.Tensor,
) -> Batch:  # fmt: skip
    """A batch of captions that name the styles `named` [B], whose noise has the functionals `values` [B, COUNT]."""
    style = torch.where(named == OPEN, coupling.style_of(values), named)
    plain, latents = (_in_style(every.float(), named) for every in (plain, latents))
    plane = tinted[:, None, None, None].expand(-1, 1, *plain.shape[-2:])
    content = torch.cat([plain.flatten(1, 2), plane], 1)
    return Batch(input_ids, codes, content, coupling.write(noise, values), of_style(latents, style), latents)


def _in_style(every: torch.Tensor, named: torch.Tensor) -> torch.Tensor:
    """Latents [B, styles, C, h, w] with the style that the caption names in place of every one."""
    same = of_style(every, named.clamp(min=0))[:, None].expand_as(every)
    return torch.where((named == OPEN)[:, None, None, None, None], every, same)
