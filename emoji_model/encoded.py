"""Composed scenes as latents: encoded once, drawn from by every step of the trainings (sampler.py)."""

from __future__ import annotations

import random
from dataclasses import dataclass, fields
from pathlib import Path

import torch
from diffusers import AutoencoderTiny
from transformers import CLIPTokenizer

from emoji_model import coupling
from emoji_model.codes import code
from emoji_model.painting import accessories, paint
from emoji_model.scenes import Author
from emoji_model.targets import encode, silent
from emoji_model.text import tokens
from emoji_model.trainer import Worker, save_atomically

SCENES = 36_000
OPEN = -1
"""The style of a caption that does not name one."""


@dataclass(frozen=True)
class EncodedScenes:
    """N captions and the latents that they and the noise ask for."""

    input_ids: torch.Tensor
    """int16 [N, POSITIONS]."""
    latents: torch.Tensor
    """float16 [N, styles, C, h, w]."""
    plain: torch.Tensor
    """float16 [N, styles, C, h, w]: the same, on tint 0 where the background is not named."""
    values: torch.Tensor
    """float32 [N, COUNT]: the tint's functionals; they count where the background is not named. Others are 0."""
    grounded: torch.Tensor
    """bool [N]: the caption names the background."""
    style: torch.Tensor
    """int8 [N]: the style that the caption names, or OPEN."""
    things: torch.Tensor
    """int8 [N]: how many things it shows."""
    codes: torch.Tensor
    """int16 [N, CELLS, 5]: what each cell shows (codes.py)."""

    def __len__(self) -> int:
        return len(self.style)


def make(
    worker: Worker, path: Path, author: Author, pictures: torch.Tensor, vae: AutoencoderTiny, tokenizer: CLIPTokenizer,
    count: int,
) -> None:  # fmt: skip
    """Make this worker's share of `count` scenes; leaves PATH-RANK.pt. Random numbers depend on seed and rank."""
    rng, share = worker.rng(0), count // worker.world
    python_rng = random.Random(int(torch.randint(2**62, (), generator=rng)))
    scenes = [author.draw(python_rng) for _ in range(share)]
    texts = [author.caption(scene, python_rng) for scene in scenes]
    values = torch.zeros(share, coupling.COUNT)
    values[:, coupling.TINT] = torch.randn(share, coupling.COUNT, generator=rng)[:, coupling.TINT]
    grounds, worn = coupling.background(values), accessories(author.concepts, pictures)
    vae.to(memory_format=torch.channels_last)
    untinted = coupling.background(torch.zeros(1, coupling.COUNT))[0]
    latents = torch.empty(share, pictures.shape[1], coupling.CHANNELS, coupling.HEIGHT, coupling.WIDTH).half()
    plain = torch.empty_like(latents)
    for number, scene in enumerate(scenes):
        latents[number] = silent(encode(vae, paint(scene, pictures, worn, grounds[number])))
        plain[number] = latents[number]
        if scene.background is None:
            plain[number] = silent(encode(vae, paint(scene, pictures, worn, untinted)))
        if worker.rank == 0 and number % 500 == 0:
            print(f"scenes: {number * worker.world}/{count}", flush=True)
    named = [OPEN if scene.style is None else scene.style for scene in scenes]
    made = EncodedScenes(
        tokens(tokenizer, texts).short(),
        latents,
        plain,
        values,
        torch.tensor([scene.background is not None for scene in scenes]),
        torch.tensor(named).char(),
        torch.tensor([len(scene.shown) for scene in scenes]).char(),
        torch.stack([code(scene) for scene in scenes]).short(),
    )
    save_atomically(vars(made), _part(path, worker.rank))


def join(path: Path, workers: int) -> None:
    """Join what the workers left into the file at `path`."""
    parts = [load(_part(path, rank)) for rank in range(workers)]
    save_atomically({f.name: torch.cat([getattr(p, f.name) for p in parts]) for f in fields(EncodedScenes)}, path)
    for rank in range(workers):
        _part(path, rank).unlink()


def load(path: Path) -> EncodedScenes:
    """Load what `join` wrote; the latents stay on disk until they are read, and workers share one copy."""
    return EncodedScenes(**torch.load(path, weights_only=True, mmap=True))


def _part(path: Path, rank: int) -> Path:
    return path.with_name(f"{path.stem}-{rank}.pt")
