"""A folded UNet is the UNet at one timestep, made of the same weights."""

from __future__ import annotations

import pytest
import torch
from diffusers import UNet2DConditionModel

from pahi_rt.errors import PahiError
from pahi_rt.export.fold import fold_timestep
from pahi_rt.export.random_models import ARCHITECTURES
from pahi_rt.train.generators import Generator


def run(unet: UNet2DConditionModel, timestep: float) -> torch.Tensor:
    random = torch.Generator().manual_seed(1)
    latents, embeddings = torch.randn(2, 4, 8, 8, generator=random), torch.randn(2, 24, 32, generator=random)
    return unet(latents, torch.tensor(timestep), embeddings).sample


@pytest.mark.parametrize("timestep", [999.0, 499.0])
def test_equals_the_unet_at_its_timestep_alone(generator: Generator, timestep: float) -> None:
    before = run(generator.unet, timestep)
    folded = fold_timestep(generator.unet, timestep)
    assert (run(folded, 0.0) - before).abs().max() < 1e-5
    assert (run(folded, 0.0) - run(generator.unet, 100.0)).abs().max() > 1e-2
    assert torch.equal(run(generator.unet, timestep), before)


def test_shares_all_weights_but_the_folded_biases(generator: Generator) -> None:
    folded = fold_timestep(generator.unet, 999.0)
    original = dict(generator.unet.named_parameters())
    own = {name for name, parameter in folded.named_parameters() if parameter is not original[name]}
    assert own == {name for name in original if "resnets" in name and name.endswith("conv1.bias")}
    assert not [name for name, _ in folded.named_parameters() if "time" in name]


def test_refuses_other_uses_of_the_time_embedding() -> None:
    unet = UNet2DConditionModel(**ARCHITECTURES["tiny"].unet, resnet_time_scale_shift="scale_shift")
    with pytest.raises(PahiError, match=r"down_blocks.0.resnets.0 .* 'scale_shift'"):
        fold_timestep(unet, 999.0)
