"""The UNet, and the weights that it does not learn: how noise and text embedding meet in it."""

from __future__ import annotations

from pathlib import Path

import torch
from diffusers import Transformer2DModel, UNet2DConditionModel
from diffusers.models.attention_processor import Attention
from diffusers.models.downsampling import Downsample2D
from diffusers.models.resnet import ResnetBlock2D
from diffusers.models.upsampling import Upsample2D
from torch import nn
from torch.nn import functional as F

from emoji_model import coupling
from emoji_model.sources import STYLES
from emoji_model.text import MARKS, PER_STYLE, WIDTH
from emoji_model.trainer import averaged

LATENT_SHAPE = (coupling.CHANNELS, coupling.HEIGHT, coupling.WIDTH)


def build_unet() -> UNet2DConditionModel:
    """The UNet with random weights, apart from those that carry the noise's functionals and point at cells."""
    unet = UNet2DConditionModel(
        sample_size=coupling.WIDTH,
        in_channels=coupling.CHANNELS,
        out_channels=coupling.CHANNELS,
        layers_per_block=1,
        block_out_channels=(48, 96, 192),
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        cross_attention_dim=WIDTH,
        attention_head_dim=(2, 4, 8),
        norm_num_groups=8,
        use_linear_projection=True,
    )
    carry_functionals(unet)
    for module in unet.modules():
        if isinstance(module, Transformer2DModel):
            point_at_cells(module.transformer_blocks[0].attn2)
    return unet.to(memory_format=torch.channels_last)


def pin(unet: UNet2DConditionModel) -> None:
    """Set the weights that training must not change; to be called before every step."""
    carry_functionals(unet)
    mute_functionals(unet)


@torch.no_grad()
def carry_functionals(unet: UNet2DConditionModel, gain: float = 8.0) -> None:
    """Let the first channels carry averages of the noise's checkerboard through the whole network, and write nothing
    else into them.

    A functional is a mean of 256 values, so it has a sixteenth of the noise's size; `gain` makes up for half of that.
    What is drawn depends on it only through products with the content. Left to itself, a UNet learns the style very
    late, and overwrites what it was given at the start.
    """
    box, one = torch.full((3, 3), 1 / 9), torch.zeros(3, 3)
    one[1, 1] = 1
    board = box * coupling.checkerboard(3, 3)
    _route(unet.conv_in, board * gain)
    # The features alternate in sign until the first downsampler, which sees every second one.
    kernels = iter((board, box))
    for module in unet.modules():
        if isinstance(module, ResnetBlock2D):
            _route(module.conv2, 0 * one)
            if module.conv_shortcut is not None:
                _route(module.conv_shortcut, torch.ones(1, 1))
        elif isinstance(module, Downsample2D):
            _route(module.conv, next(kernels))
        elif isinstance(module, Upsample2D):
            _route(module.conv, one)
        elif isinstance(module, Transformer2DModel):
            _share(module)


def _share(layer: Transformer2DModel, gain: float = 4.0) -> None:
    """Let every place add the mean over all places to its own: what one place sees of a functional is mostly noise."""
    block = layer.transformer_blocks[0]
    for norm in (layer.norm, block.norm1, block.norm2, block.norm3):
        norm.weight[: coupling.CHANNELS], norm.bias[: coupling.CHANNELS] = 1, 0
    block.attn1.to_q.weight[: len(block.attn1.to_q.weight) // block.attn1.heads] = 0  # the first head sees all places
    for linear, size in (
        (layer.proj_in, 1.0), (block.attn1.to_v, 1.0), (block.attn1.to_out[0], gain), (block.attn2.to_out[0], 0.0),
        (block.ff.net[2], 0.0), (layer.proj_out, 1.0),
    ):  # fmt: skip
        _route(linear, torch.tensor(size))
    _gate(block.attn2)


def _gate(attention: Attention, slope: float = 8.0) -> None:
    """Turn three of four heads to the first token, which holds nothing, unless the noise asks for their style."""
    queries = attention.to_q.weight.unflatten(0, (attention.heads, -1))
    queries[:, 0] = 0
    # Only differences count: a group norm before may have moved all of them.
    asked = slope * (1 / len(STYLES) - torch.eye(len(STYLES)))
    for first in range(0, attention.heads, len(STYLES) + 1):
        queries[first : first + len(STYLES), 0, coupling.STYLE] = asked


def _route(layer: nn.Conv2d | nn.Linear, kernel: torch.Tensor) -> None:
    """Let the first channels of a layer's output come from the same channels of its input alone."""
    layer.weight[: coupling.CHANNELS] = 0
    if layer.bias is not None:
        layer.bias[: coupling.CHANNELS] = 0
    for channel in range(coupling.CHANNELS):
        layer.weight[channel, channel] = kernel


@torch.no_grad()
def point_at_cells(attention: Attention) -> None:
    """Initialise keys with the places of the tokens, and the heads of each style so that they read that style.

    A place then finds the token of its cell as soon as its query knows where it is. From random keys, a UNet learned to
    recognise whole drawings instead: after 16,600 steps no head looked at the cell of its own place.
    """
    attention.to_k.weight.zero_()
    keys, values = (linear.weight.unflatten(0, (attention.heads, -1)) for linear in (attention.to_k, attention.to_v))
    outputs = attention.to_out[0].weight.unflatten(1, (attention.heads, -1))
    keys[:, :MARKS, -MARKS:] = torch.eye(MARKS)
    for first in range(0, attention.heads, len(STYLES) + 1):
        read = len(STYLES) ** 0.5 * values[first, :, :PER_STYLE]
        for style in range(len(STYLES)):
            values[first + style] = F.pad(read, (style * PER_STYLE, WIDTH - (style + 1) * PER_STYLE))
            outputs[:, first + style] = outputs[:, first]


@torch.no_grad()
def mute_functionals(unet: UNet2DConditionModel) -> None:
    """Remove from the last convolution what draws a checkerboard, where the functionals are read.

    The second step sees the noise through the drawing of the first. If that drawing is 0 on the checkerboard, the
    second step reads the same values as the first.
    """
    board, weight = coupling.checkerboard(3, 3), unet.conv_out.weight
    weight -= board * (weight * board).sum((2, 3), keepdim=True) / board.numel()


def load_unet(folder: Path) -> UNet2DConditionModel:
    """The trained UNet (moving average of the weights) of a stage, frozen."""
    unet = build_unet()
    unet.load_state_dict(averaged(folder, "unet"))
    return unet.eval().requires_grad_(False)
