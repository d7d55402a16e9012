"""Batches: caption and noise together ask for exactly the target that they are paired with."""

import pytest
import torch

from emoji_model import coupling
from emoji_model import sampler as module
from emoji_model.encoded import OPEN
from emoji_model.sampler import Sampler
from emoji_model.sources import STYLES


def test_noise_asks_for_the_tint_and_the_style_of_a_plain_caption(sampler: Sampler) -> None:
    batch = sampler.draw_plain(256, torch.Generator().manual_seed(0))
    number = batch.latents[:, 0, 0, 0].long()
    styles, read = number // 5 % len(STYLES), coupling.read(batch.noise)
    wanted = sampler.targets.values[number // (5 * len(STYLES)), number % 5]
    assert torch.allclose(read[:, coupling.TINT], wanted[:, coupling.TINT], atol=1e-4)
    texts = [sampler.tokenizer.decode(ids, skip_special_tokens=True) for ids in batch.input_ids]
    named = torch.tensor([any(style in text for style in STYLES) for text in texts])
    assert named.float().mean() == pytest.approx(module.NAMED, abs=0.1)
    # A caption that names the style leaves the noise's own style free; any other is decided by the noise.
    assert torch.equal(coupling.style_of(read)[~named], styles[~named])
    assert not torch.equal(coupling.style_of(read)[named], styles[named])
    assert all(list(STYLES)[style] in text for style, text, say in zip(styles, texts, named, strict=True) if say)


def test_noise_asks_for_the_tint_and_the_style_of_a_scene(sampler: Sampler) -> None:
    encoded, rng = sampler.encoded, torch.Generator().manual_seed(0)
    scenes = torch.randint(len(encoded), (200,), generator=rng)
    batch = sampler.draw_composed(scenes, rng)
    read, numbers = coupling.read(batch.noise), batch.latents[:, 0, 0, 0].long()
    assert torch.equal(numbers // 10, scenes)
    assert torch.equal(batch.input_ids, encoded.input_ids[scenes].long())
    named, open_ground = encoded.style[scenes].long(), ~encoded.grounded[scenes]
    assert torch.equal(numbers % 10, torch.where(named == OPEN, coupling.style_of(read), named))
    wanted = encoded.values[scenes][:, coupling.TINT]
    assert torch.allclose(read[open_ground][:, coupling.TINT], wanted[open_ground], atol=1e-4)
    # A named background leaves the tint's values to the noise.
    free = read[~open_ground][:, coupling.TINT]
    assert free.std() == pytest.approx(1.0, abs=0.15)


def test_the_content_is_the_picture_on_tint_0_in_the_styles_that_the_caption_leaves_open(sampler: Sampler) -> None:
    scenes = torch.arange(10)
    batch = sampler.draw_composed(scenes, torch.Generator().manual_seed(0))
    shown = 2 * batch.content[:, :-1].unflatten(1, (3, 4))[:, :, 0, 0, 0] - 10 * scenes[:, None]
    named = sampler.encoded.style
    for row, style in zip(shown.tolist(), named.tolist(), strict=True):
        assert row == ([0, 1, 2] if style == OPEN else [style] * 3)
    assert torch.equal(batch.content[:, -1, 3, 3], (~sampler.encoded.grounded).float())
    plain = sampler.draw_plain(64, torch.Generator().manual_seed(0))
    concepts = plain.styles[:, 0, 0, 0, 0].long() // 15
    shown = plain.content[:, :-1].unflatten(1, (3, 4))[:, :, 0, 0, 0].long()
    assert torch.equal(shown // 3, concepts[:, None].expand(-1, 3))
    assert torch.equal(shown % 3, plain.styles[:, :, 0, 0, 0].long() // 5 % 3)
    assert (plain.content[:, -1] == 1).all()


def test_codes_say_what_the_pictures_show(sampler: Sampler) -> None:
    scenes = torch.arange(10)
    assert torch.equal(sampler.draw_composed(scenes, torch.Generator()).codes, sampler.encoded.codes.long())
    batch = sampler.draw_plain(128, torch.Generator().manual_seed(0))
    concepts, things = batch.styles[:, 0, 0, 0, 0].long() // 15, batch.codes[:, :, 0]
    assert torch.equal(things, concepts[:, None].expand_as(things))


def test_all_styles_of_a_row_are_one_picture_on_one_tint(sampler: Sampler) -> None:
    batch = sampler.draw_plain(64, torch.Generator().manual_seed(0))
    numbers = batch.styles[:, :, 0, 0, 0].long()
    assert (numbers // 15).unique(dim=1).shape[1] == 1
    assert (numbers % 5).unique(dim=1).shape[1] == 1
    asked = (batch.styles == batch.latents[:, None]).flatten(2).all(2).sum(1)
    assert set(asked.tolist()) == {1, 3}  # three where the caption names it


def test_a_batch_has_its_shares_of_every_kind(sampler: Sampler) -> None:
    batch = sampler.draw(40, torch.Generator().manual_seed(0))
    plain, several = round(40 * module.PLAIN), round(40 * module.SEVERAL)
    things = sampler.encoded.things[batch.styles[plain:, 0, 0, 0, 0].long() // 10]
    assert (things[:several] > 1).all() and (things[several:] == 1).all()
    assert len(batch.input_ids) == len(batch.codes) == len(batch.noise) == 40


def test_batches_depend_on_the_generator_alone(sampler: Sampler) -> None:
    first, again, other = (sampler.draw(8, torch.Generator().manual_seed(seed)) for seed in (1, 1, 2))
    assert all(torch.equal(value, vars(again)[name]) for name, value in vars(first).items())
    assert not torch.equal(first.noise, other.noise)
