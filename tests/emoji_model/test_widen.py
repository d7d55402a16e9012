"""The widening: composed scenes come with the noise that asks for them."""

import pytest
import torch

from emoji_model import coupling, widen
from emoji_model.encoded import OPEN, EncodedScenes


def test_noise_asks_for_the_tint_and_the_style_of_its_scene(encoded: EncodedScenes) -> None:
    batch = widen.draw_composed(encoded, 200, torch.Generator().manual_seed(0))
    read, numbers = coupling.read(batch.noise), batch.latents[:, 0, 0, 0].long()
    scenes, styles = numbers // 10, numbers % 10
    assert torch.equal(batch.input_ids, encoded.input_ids[scenes].long())
    named, open_ground = encoded.style[scenes].long(), ~encoded.grounded[scenes]
    assert torch.equal(styles, torch.where(named == OPEN, coupling.style_of(read), named))
    wanted = encoded.values[scenes][:, coupling.TINT]
    assert torch.allclose(read[open_ground][:, coupling.TINT], wanted[open_ground], atol=1e-4)
    # A named background leaves the tint's values to the noise.
    free = read[~open_ground][:, coupling.TINT]
    assert free.std() == pytest.approx(1.0, abs=0.15)


def test_batches_follow_each_other(encoded: EncodedScenes) -> None:
    first, second = (widen.draw_composed(encoded, 3, torch.Generator().manual_seed(seed)) for seed in (1, 2))
    both = widen.join(first, second)
    assert torch.equal(both.noise, torch.cat([first.noise, second.noise]))
    assert len(both.styles) == 6
