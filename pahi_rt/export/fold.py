"""A UNet for one fixed timestep, with nothing of the time embedding left in it.

Each residual block adds `time_emb_proj(silu(time_embedding(t)))` to the output of its first convolution. For a fixed t
that is a constant per channel, hence part of the convolution's bias. It must go before the export: no graph optimiser
removes it afterwards, because the timestep is expanded to the batch, and the batch is dynamic.

The UNet of SDXL adds the prompt's pooled embedding to the time embedding before its blocks read it. Only the constant
parts are folded there: the timestep's embedding becomes a buffer, and that of the time ids part of a bias.
"""

from __future__ import annotations

import copy

import torch
from diffusers import UNet2DConditionModel
from diffusers.models.resnet import ResnetBlock2D, ResnetBlockCondNorm2D
from torch import Tensor, nn

from pahi_rt.errors import PahiError


@torch.no_grad()
def fold_timestep(
    unet: UNet2DConditionModel, timestep: float, guidance: Tensor | None = None, time_ids: Tensor | None = None
) -> UNet2DConditionModel:
    """A copy of `unet` that ignores its timestep argument and always stands at `timestep`.

    `guidance` [1, G] is what the UNet of an LCM reads beside its timestep; it is folded as well. So are SDXL's
    `time_ids` [1, 6]: the copy reads only `text_embeds` of its added_cond_kwargs. The copy shares every weight with
    `unet` except those that the folding changes. Raises PahiError if a block uses the time embedding in another way
    than diffusers' default.
    """
    embedding = _time_embedding(unet, timestep, guidance)
    shared = {id(tensor): tensor for tensor in (*unet.parameters(), *unet.buffers())}
    folded = copy.deepcopy(unet, shared)
    blocks = {name: block for name, block in folded.named_modules() if isinstance(block, _BLOCKS)}
    for name, block in blocks.items():
        _check_block(name, block)
    folded.__class__ = _FoldedTimestep
    if time_ids is not None:
        folded.time_embedding = _Constant(embedding)
        _fold_time_ids(folded, time_ids)
        return folded
    for block in blocks.values():
        _fold_block(block, embedding if folded.time_embed_act is None else folded.time_embed_act(embedding))
    folded.time_embedding, folded.time_embed_act = _Constant(None), None
    return folded


_BLOCKS = (ResnetBlock2D, ResnetBlockCondNorm2D)


class _Constant(nn.Module):
    embedding: Tensor | None

    def __init__(self, embedding: Tensor | None) -> None:
        super().__init__()
        self.register_buffer("embedding", embedding)

    def forward(self, *_: Tensor | None) -> Tensor | None:
        return self.embedding


class _FoldedTimestep(UNet2DConditionModel):
    """A UNet that does not touch its timestep: diffusers would copy it to the device, and wait until it is there."""

    def get_time_embed(self, sample: Tensor, timestep: Tensor | float) -> None:
        return None


class _FoldedTimeIds(_FoldedTimestep):
    """SDXL's UNet with folded time ids: what it adds to the time embedding comes from the prompt alone."""

    def get_aug_embed(self, emb: Tensor, encoder_hidden_states: Tensor, added_cond_kwargs: dict[str, Tensor]) -> Tensor:
        embedding: Tensor = self.add_embedding(added_cond_kwargs["text_embeds"])
        return embedding


def _time_embedding(unet: UNet2DConditionModel, timestep: float, guidance: Tensor | None) -> Tensor:
    weight = next(unet.parameters())
    time = unet.time_proj(torch.tensor([timestep], dtype=torch.float32, device=weight.device))
    embedding: Tensor = unet.time_embedding(time.to(weight.dtype), guidance)
    return embedding


def _fold_block(block: ResnetBlock2D, embedding: Tensor) -> None:
    if block.time_emb_proj is None:
        return
    shift = block.time_emb_proj(embedding if block.skip_time_act else block.nonlinearity(embedding))[0]
    block.conv1.bias = _fixed(block.conv1.bias + shift)
    block.time_emb_proj = None


def _fold_time_ids(folded: UNet2DConditionModel, time_ids: Tensor) -> None:
    """linear_1([text_embeds, project(time_ids)]): the second half is a constant, hence part of the bias."""
    times, first = folded.add_time_proj(time_ids.flatten()).flatten(), folded.add_embedding.linear_1
    text, rest = first.weight[:, : -len(times)], first.weight[:, -len(times) :]
    first.weight, first.bias = _fixed(text.contiguous()), _fixed(first.bias + rest @ times)
    folded.add_time_proj = None
    folded.__class__ = _FoldedTimeIds


def _fixed(tensor: Tensor) -> nn.Parameter:
    return nn.Parameter(tensor, requires_grad=False)


def _check_block(name: str, block: nn.Module) -> None:
    kind = block.time_embedding_norm
    if isinstance(block, ResnetBlockCondNorm2D) or kind != "default":
        raise PahiError(
            f"block {name} of the UNet uses its time embedding as {kind!r}, which cannot be folded into a bias",
            fix="export a model whose UNet has resnet_time_scale_shift = 'default', as SD 1.x, SD 2.x and SDXL have",
        )
