"""Less precision: what is rounded, what is spared, and what cannot be."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from pahi_rt.errors import PahiError
from pahi_rt.export.fused import FusedGenerator, FusedPrior
from pahi_rt.export.precision import ALL, NORMS, half_values, halve
from pahi_rt.manifest import PRECISIONS
from pahi_rt.models.generators import Generator
from pahi_rt.models.priors import load_prior


def test_every_precision_of_the_manifest_can_be_exported() -> None:
    assert tuple(ALL) == PRECISIONS


def inputs() -> tuple[torch.Tensor, torch.Tensor]:
    random = torch.Generator().manual_seed(0)
    return torch.randint(0, 600, (2, 24), generator=random), torch.randn(2, 4, 8, 8, generator=random)


@pytest.mark.parametrize("steps", [1, 2])
def test_halving_changes_pictures_by_little(generator: Generator, steps: int) -> None:
    fused = FusedGenerator(generator, steps)
    before = fused(*inputs()).int()
    halve(fused)
    difference = fused(*inputs()).int() - before
    assert 0 < difference.abs().max() <= 8
    assert difference.abs().float().mean() < 1


def test_halving_spares_norms_and_the_prior(generator: Generator, priors: dict[str, Path]) -> None:
    fused = FusedPrior(generator, 2, load_prior(priors["pahi"]))
    halve(fused)
    spared = [module for module in fused.modules() if isinstance(module, NORMS)]
    kept = {id(parameter) for module in (*spared, fused.prior) for parameter in module.parameters()}
    assert spared and {p.dtype for p in fused.parameters() if id(p) in kept} == {torch.float32}
    assert {p.dtype for p in fused.parameters() if id(p) not in kept} == {torch.float16}


def test_halving_refuses_what_float16_cannot_hold(generator: Generator) -> None:
    nn.init.constant_(generator.unet.conv_out.bias, 1e5)
    with pytest.raises(PahiError, match=r"unets.0.conv_out.bias is out of float16's range"):
        halve(FusedGenerator(generator, 1))


@pytest.mark.parametrize("steps", [1, 2])
def test_half_values_draw_what_half_arithmetic_draws(generator: Generator, steps: int) -> None:
    ids, noise = inputs()
    whole = generator(ids, noise, steps)
    with half_values(generator):
        rounded = generator(ids, noise, steps)
    assert torch.equal(generator(ids, noise, steps), whole)  # no hook is left
    fused = FusedGenerator(generator, steps)
    halve(fused)
    halved = fused(ids, noise).permute(0, 3, 1, 2) / 255
    errors = [(pictures - whole).square().mean().sqrt() for pictures in (rounded, halved)]
    assert 1e-5 < errors[0] < 5e-3
    assert errors[1] < 5e-3


@pytest.mark.parametrize(
    ("module", "fix"),
    [
        ("unet.down_blocks.0.resnets.0.conv1", "export with --precision fp32"),  # a norm follows: pictures are as good
        ("decoder.decoder.layers.0", "export with --precision fp32, or with another --decoder"),
    ],
)
def test_half_values_name_the_module_that_overflows(generator: Generator, module: str, fix: str) -> None:
    with torch.no_grad():
        generator.get_submodule(module).get_parameter("weight").mul_(1e5)
    assert generator(*inputs()).isfinite().all()
    with half_values(generator), pytest.raises(PahiError, match=f"what {module} returns is out of float16's") as caught:
        generator(*inputs())
    assert caught.value.fix == fix


def test_half_values_see_sums_that_no_module_returns(generator: Generator) -> None:
    block = "unet.mid_block.attentions.0.transformer_blocks.0"
    with torch.no_grad():
        for part in ("attn1.to_out.0", "attn2.to_out.0"):
            nn.init.constant_(generator.get_submodule(f"{block}.{part}").get_parameter("bias"), 4e4)
    with half_values(generator), pytest.raises(PahiError, match=f"what {block}.norm3 reads"):
        generator(*inputs())


def test_half_values_leave_nan_to_the_gate(generator: Generator) -> None:
    nn.init.constant_(generator.unet.conv_out.bias, torch.nan)
    with half_values(generator):
        assert generator(*inputs()).isnan().all()
