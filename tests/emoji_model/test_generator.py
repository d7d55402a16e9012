"""Training batches: the caption and the noise together ask for exactly the target they are paired with."""

from pathlib import Path

import pytest
import torch

from emoji_model import coupling, generator, tokenizer
from emoji_model.captions import Captions
from emoji_model.sources import STYLES, Concept
from emoji_model.targets import Targets

VARIANTS = 5


@pytest.fixture
def sampler(concepts: list[Concept], tmp_path: Path) -> generator.Sampler:
    captions = Captions(concepts)
    words = tokenizer.train(captions.words() * 5, tmp_path)
    size = (len(concepts), len(STYLES), VARIANTS)
    # Each latent is filled with its own number, so that a test can tell which one was drawn.
    numbers = torch.arange(size[0] * size[1] * size[2]).view(*size, 1, 1, 1)
    values = torch.randn(len(concepts), VARIANTS, coupling.COUNT, generator=torch.Generator().manual_seed(3))
    return generator.Sampler(Targets(numbers.expand(*size, *generator.LATENT_SHAPE).half(), values), captions, words)


def test_noise_asks_for_its_target(sampler: generator.Sampler) -> None:
    batch = sampler.draw(256, torch.Generator().manual_seed(0))
    number = batch.latents[:, 0, 0, 0].long()
    styles = number // VARIANTS % len(STYLES)
    read = coupling.read(batch.noise)
    wanted = sampler.targets.values[number // (VARIANTS * len(STYLES)), number % VARIANTS]
    fixed = coupling.TINT
    assert torch.allclose(read[:, fixed], wanted[:, fixed], atol=1e-4)
    texts = [sampler.tokenizer.decode(ids, skip_special_tokens=True) for ids in batch.input_ids]
    named = torch.tensor([any(style in text for style in STYLES) for text in texts])
    assert named.float().mean() == pytest.approx(generator.STYLED, abs=0.1)
    # A caption that names the style leaves the noise's own style free; any other is decided by the noise.
    assert torch.equal(coupling.style_of(read)[~named], styles[~named])
    assert not torch.equal(coupling.style_of(read)[named], styles[named])
    assert all(list(STYLES)[style] in text for style, text, say in zip(styles, texts, named, strict=True) if say)


def test_batches_depend_on_the_generator_alone(sampler: generator.Sampler) -> None:
    first, again, other = (sampler.draw(8, torch.Generator().manual_seed(seed)) for seed in (1, 1, 2))
    assert torch.equal(first.noise, again.noise)
    assert torch.equal(first.input_ids, again.input_ids)
    assert not torch.equal(first.noise, other.noise)


def test_the_style_functional_reaches_the_lowest_resolution() -> None:
    """What pass_functionals is for: a small mean of the noise arrives enlarged, on a linear path."""
    unet = generator.build_unet()

    def lift(sample: torch.Tensor) -> torch.Tensor:
        lifted = unet.down_blocks[0].downsamplers[0].conv(unet.conv_in(sample))
        return unet.down_blocks[1].resnets[0].conv_shortcut(lifted)

    sample = torch.zeros(1, *generator.LATENT_SHAPE)
    sample[:, 1] = coupling.checkerboard(coupling.HEIGHT, coupling.WIDTH) / 16
    inner = (lift(sample) - lift(torch.zeros_like(sample)))[0, 1, 2:-2, 2:-2]
    assert torch.allclose(inner, torch.full_like(inner, 0.5), atol=1e-4)


def test_the_second_step_keeps_the_style_of_the_first(sampler: generator.Sampler) -> None:
    batch = sampler.draw(32, torch.Generator().manual_seed(0))
    # Every style of a row is the same concept on the same tint, and what was asked for is one of them.
    numbers = batch.styles[:, :, 0, 0, 0].long()
    assert (numbers // (VARIANTS * len(STYLES))).unique(dim=1).shape[1] == 1
    assert (numbers % VARIANTS).unique(dim=1).shape[1] == 1
    asked = (batch.styles == batch.latents[:, None]).flatten(2).all(2)
    assert (asked.sum(1) == 1).all()
    drawn = batch.styles[:, 1] + 0.1
    assert torch.equal(generator.nearest_style(drawn, batch.styles), batch.styles[:, 1])


def test_muted_drawings_hold_nothing_where_the_noise_is_read() -> None:
    torch.manual_seed(0)
    unet = generator.build_unet()
    text, noise = torch.randn(4, 24, 192), torch.randn(4, *generator.LATENT_SHAPE)

    def functionals() -> torch.Tensor:
        """Of the plain patterns: those that change sign half way have a border inside."""
        with torch.no_grad():
            return coupling.read(unet(noise, 999, text, return_dict=False)[0])[:, :4].abs().mean()

    before = functionals()
    generator.mute_functionals(unet)
    assert functionals() < 0.4 * before
    weight = unet.conv_out.weight.clone()
    generator.mute_functionals(unet)
    assert torch.allclose(unet.conv_out.weight, weight, atol=1e-7)
