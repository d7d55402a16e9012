"""The UNet's initial weights, and what they are for."""

import pytest
import torch

from emoji_model import coupling, sketch
from emoji_model import unet as module
from emoji_model.text import MARKS, PER_STYLE, WIDTH
from emoji_model.tokenizer import POSITIONS


def test_functionals_reach_every_resolution_whatever_training_did() -> None:
    torch.manual_seed(0)
    unet, rng = module.build_unet(), torch.Generator().manual_seed(0)
    with torch.no_grad():
        for weight in unet.parameters():
            weight.add_(torch.randn(weight.shape, generator=rng), alpha=0.02)
    module.pin(unet)
    pinned = {name: weight.clone() for name, weight in unet.named_parameters()}
    module.pin(unet)
    assert all(torch.allclose(weight, pinned[name], atol=1e-7) for name, weight in unet.named_parameters())
    noise = torch.randn(64, *module.LATENT_SHAPE, generator=rng)
    seen: list[torch.Tensor] = []
    for layer in (
        unet.down_blocks[0].downsamplers[0],
        unet.mid_block,
        *(unet.up_blocks[n].upsamplers[0] for n in (0, 1)),
    ):
        layer.register_forward_hook(lambda layer, inputs, output: seen.append(output))
    with torch.no_grad():
        unet(noise, 999, torch.randn(64, POSITIONS, WIDTH, generator=rng))
    wanted = coupling.read(noise)[:, :4]
    for output in seen:
        carried = output[:, :4].mean((2, 3))
        for channel in range(4):
            assert torch.corrcoef(torch.stack([carried[:, channel], wanted[:, channel]]))[0, 1] > 0.75


def test_every_head_tells_the_places_of_tokens_apart_by_their_marks_alone() -> None:
    layers = [m for name, m in module.build_unet().named_modules() if name.endswith("attn2")]
    assert len(layers) == 7
    tokens = torch.randn(MARKS, WIDTH, generator=torch.Generator().manual_seed(0))
    tokens[:, -MARKS:] = torch.eye(MARKS)
    for layer in layers:
        keys = layer.to_k(tokens).unflatten(1, (layer.heads, -1))
        assert torch.equal(keys[:, :, :MARKS], torch.eye(MARKS)[:, None].expand(-1, layer.heads, -1))
        assert (keys[:, :, MARKS:] == 0).all()


def test_heads_of_a_style_turn_to_the_first_token_unless_the_noise_asks_for_it() -> None:
    torch.manual_seed(0)
    unet, rng = module.build_unet(), torch.Generator().manual_seed(0)
    noise = torch.randn(1, *module.LATENT_SHAPE, generator=rng).expand(3, -1, -1, -1)
    values = coupling.read(noise)
    values[:, coupling.STYLE] = 3 * torch.eye(3) - 1
    text = torch.zeros(3, POSITIONS, WIDTH)
    text[:, 0] = sketch.BLANK
    seen: list[torch.Tensor] = []
    layer = unet.mid_block.attentions[0].transformer_blocks[0].attn2
    layer.to_q.register_forward_hook(lambda linear, inputs, output: seen.append(output))
    with torch.no_grad():
        unet(coupling.write(noise, values), 999, text)
    start = seen[0].unflatten(2, (layer.heads, -1))[..., 0].mean(1)  # [3, heads]: how much each asks for it
    for style in range(3):
        for head in (style, style + 4):
            assert start[:, head].argmin() == style
    assert start[:, [3, 7]].abs().max() < 1e-5


def test_muted_drawings_hold_nothing_where_the_noise_is_read() -> None:
    torch.manual_seed(0)
    unet = module.build_unet()
    text, noise = torch.randn(4, POSITIONS, WIDTH), torch.randn(4, *module.LATENT_SHAPE)

    def functionals() -> torch.Tensor:
        """Of the plain patterns: those that change sign half way have a border inside."""
        with torch.no_grad():
            return coupling.read(unet(noise, 999, text, return_dict=False)[0])[:, :4].abs().mean()

    before = functionals()
    module.mute_functionals(unet)
    assert functionals() < 0.4 * before
    weight = unet.conv_out.weight.clone()
    module.mute_functionals(unet)
    assert torch.allclose(unet.conv_out.weight, weight, atol=1e-7)


def test_heads_of_all_styles_read_each_its_own_in_the_same_way() -> None:
    layer = module.build_unet().mid_block.attentions[0].transformer_blocks[0].attn2
    values = layer.to_v.weight.detach().unflatten(0, (8, -1))
    outputs = layer.to_out[0].weight.detach().unflatten(1, (8, -1))
    for first in (0, 4):
        read = values[first, :, :PER_STYLE]
        assert read.std() > 0
        for style in range(3):
            row = values[first + style]
            assert torch.equal(row[:, style * PER_STYLE : (style + 1) * PER_STYLE], read)
            assert row.abs().sum() == pytest.approx(float(read.abs().sum()), rel=1e-4)
            assert torch.equal(outputs[:, first + style], outputs[:, first])
