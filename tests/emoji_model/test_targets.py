"""Targets: every style on the same tints, and nothing in them where the noise is read."""

from typing import Any

import torch

from emoji_model import coupling, targets


class Subsampler:
    """In the autoencoder's place: every eighth pixel, its red twice."""

    def encoder(self, pictures: torch.Tensor) -> torch.Tensor:
        return pictures[:, [0, 1, 2, 0], ::8, ::8]


def test_targets_hold_nothing_where_the_noise_is_read() -> None:
    vae: Any = Subsampler()
    pictures = torch.randint(256, (2, 3, 4, 128, 128), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    parts = list(targets.make(vae, pictures, seed=0))
    assert len(parts) == 2
    part = parts[0]
    untinted = targets.encode(vae, targets.apply_attributes(pictures[0], torch.zeros(3, coupling.COUNT)))
    assert torch.allclose(part.plain.float(), targets.silent(untinted), atol=1e-2)
    assert part.latents.shape == (3, targets.VARIANTS, 4, 16, 16)
    made = part.latents.float().flatten(0, 1)
    assert coupling.read(made).abs().max() < 0.02
    plain = targets.encode(vae, targets.apply_attributes(pictures[0, :1], part.values[:1]))
    assert coupling.read(plain).abs().max() > 0.3
    assert torch.allclose(made[:1], coupling.write(plain, torch.zeros(1, coupling.COUNT)), atol=1e-2)
