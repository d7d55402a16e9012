"""Less precision: what is rounded, what is spared, and what cannot be."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from pahi_rt.errors import PahiError
from pahi_rt.export.fused import FusedGenerator, FusedPrior
from pahi_rt.export.precision import ALL, NORMS, halve
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
