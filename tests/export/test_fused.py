"""The module that becomes the graph draws what the generator draws, as bytes."""

from __future__ import annotations

import inspect
from pathlib import Path

import pytest
import torch

from pahi_rt.errors import PahiError
from pahi_rt.export.fused import FusedGenerator, FusedPrior, to_levels
from pahi_rt.models.generators import Generator, load_generator
from pahi_rt.models.priors import HI, load_prior
from pahi_rt.models.random_models import Size, save_random_pipeline


@pytest.mark.parametrize("steps", [1, 2])
def test_draws_what_the_generator_draws(generator: Generator, steps: int) -> None:
    random = torch.Generator().manual_seed(0)
    input_ids = torch.randint(0, 600, (2, 24), generator=random)
    noise = torch.randn(2, 4, 8, 8, generator=random)
    levels = FusedGenerator(generator, steps)(input_ids, noise)
    assert levels.shape == (2, 64, 64, 3)
    assert levels.dtype == torch.uint8
    difference = levels.int() - to_levels(generator(input_ids, noise, steps)).int()
    assert difference.abs().max() <= 1
    assert (difference == 0).float().mean() > 0.999


def test_forward_has_the_inputs_of_the_graph(generator: Generator) -> None:
    fused = FusedGenerator(generator, 1)
    assert list(inspect.signature(fused.forward).parameters) == list(fused.example_inputs())
    assert {len(example) for example in fused.example_inputs(batch=3).values()} == {3}


@pytest.mark.parametrize("kind", ["hi", "pahi"])
def test_a_prior_shapes_the_noise(generator: Generator, priors: dict[str, Path], kind: str) -> None:
    prior = load_prior(priors[kind])
    fused = FusedPrior(generator, 1, prior)
    random = torch.Generator().manual_seed(0)
    input_ids = torch.randint(0, 600, (3, 24), generator=random)
    noise, strength = torch.randn(3, 4, 8, 8, generator=random), torch.tensor([0, 0.5, 1])
    drawn, plain = fused(input_ids, noise, strength), FusedGenerator(generator, 1)(input_ids, noise)
    assert [torch.equal(a, b) for a, b in zip(drawn, plain, strict=True)] == [True, False, False]
    gaussian = prior(generator.encode_prompt(input_ids).pooled)
    std, mean = 1 + (gaussian.sigma[1] ** 2 - 1) / 2, gaussian.mu[1] / 2
    expected = to_levels(generator(input_ids[1:2], (noise[1] * std + mean)[None]))
    assert (drawn[1].int() - expected[0].int()).abs().max() <= 1


def test_a_prior_brings_its_input(generator: Generator, priors: dict[str, Path]) -> None:
    fused = FusedPrior(generator, 1, load_prior(priors["pahi"]))
    assert list(inspect.signature(fused.forward).parameters) == list(fused.example_inputs())
    assert list(fused.example_inputs()) == ["input_ids", "noise", "prior_strength"]
    assert {len(example) for example in fused.example_inputs(batch=3).values()} == {3}


def test_refuses_a_prior_of_another_model(generator: Generator) -> None:
    with pytest.raises(PahiError, match="makes noise of shape"):
        FusedPrior(generator, 1, HI((4, 4, 4)))


def test_two_steps_share_their_weights(generator: Generator) -> None:
    sizes = [sum(p.numel() for p in FusedGenerator(generator, steps).parameters()) for steps in (1, 2)]
    assert 0 < sizes[1] - sizes[0] < 0.001 * sizes[0]


def test_levels_round_half_to_even() -> None:
    values = torch.tensor([0.0, 0.5, 1.5, 2.5, 254.5, 255.0]) / 255
    values = torch.cat([values, torch.ones(6)]).reshape(1, 3, 2, 2)
    levels = to_levels(values)
    assert levels.shape == (1, 2, 2, 3)
    assert levels.permute(0, 3, 1, 2).flatten()[:6].tolist() == [0, 0, 2, 2, 254, 255]


@pytest.mark.parametrize("size", ["tiny-lcm", "tiny-sdxl"])
@pytest.mark.parametrize("steps", [1, 2])
def test_other_families(size: Size, steps: int, tmp_path: Path) -> None:
    """LCM's guidance and SDXL's time ids are folded away; its second encoder and AutoencoderKL are in the graph."""
    generator = load_generator(save_random_pipeline(tmp_path / "model", size))
    input_ids, noise = generator.tokenize(["a red cat", "a dog!"]), torch.randn(2, 4, 8, 8)
    drawn = FusedGenerator(generator, steps)(input_ids, noise)
    difference = drawn.int() - to_levels(generator(input_ids, noise, steps)).int()
    assert difference.abs().max() <= 1
    assert (drawn[0].int() - drawn[1].int()).abs().float().mean() > 1
