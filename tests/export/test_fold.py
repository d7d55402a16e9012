"""A folded UNet is the UNet at one timestep, made of the same weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import UNet2DConditionModel

from pahi_rt.errors import PahiError
from pahi_rt.export.fold import fold_timestep
from pahi_rt.models.generators import Generator, load_generator
from pahi_rt.models.random_models import ARCHITECTURES, save_random_pipeline


def run(unet: UNet2DConditionModel, timestep: float, width: int = 32, **more: Any) -> torch.Tensor:
    random = torch.Generator().manual_seed(1)
    latents, embeddings = torch.randn(2, 4, 8, 8, generator=random), torch.randn(2, 24, width, generator=random)
    return unet(latents, torch.tensor(timestep), embeddings, **more).sample


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


def test_guidance_is_folded_with_the_timestep(tmp_path: Path) -> None:
    generator = load_generator(save_random_pipeline(tmp_path / "lcm", "tiny-lcm"))
    folded = fold_timestep(generator.unet, 999.0, generator.guidance)
    before = run(generator.unet, 999.0, timestep_cond=generator.guidance)
    assert (run(folded, 0.0) - before).abs().max() < 1e-5
    assert (run(folded, 0.0) - run(generator.unet, 999.0)).abs().max() > 1e-3


def test_time_ids_are_folded_but_not_the_prompt(tmp_path: Path) -> None:
    generator = load_generator(save_random_pipeline(tmp_path / "sdxl", "tiny-sdxl"))
    original = dict(generator.unet.named_parameters())
    folded = fold_timestep(generator.unet, 999.0, time_ids=generator.time_ids)
    for seed in (0, 1):
        text_embeds = torch.randn(2, 24, generator=torch.Generator().manual_seed(seed))
        added = {"text_embeds": text_embeds, "time_ids": generator.time_ids.expand(2, -1)}
        before = run(generator.unet, 999.0, 72, added_cond_kwargs=added)
        after = run(folded, 0.0, 72, added_cond_kwargs={"text_embeds": text_embeds})
        assert (after - before).abs().max() < 1e-5
    own = {name for name, parameter in folded.named_parameters() if parameter is not original[name]}
    assert own == {"add_embedding.linear_1.weight", "add_embedding.linear_1.bias"}
