"""A UNet for one fixed timestep, with nothing of the time embedding left in it.

Each residual block adds `time_emb_proj(silu(time_embedding(t)))` to the output of its first convolution. For a fixed t
that is a constant per channel, hence part of the convolution's bias. It must go before the export: no graph optimiser
removes it afterwards, because the timestep is expanded to the batch, and the batch is dynamic.
"""

from __future__ import annotations

import copy

import torch
from diffusers import UNet2DConditionModel
from diffusers.models.resnet import ResnetBlock2D, ResnetBlockCondNorm2D
from torch import Tensor, nn

from pahi_rt.errors import PahiError


@torch.no_grad()
def fold_timestep(unet: UNet2DConditionModel, timestep: float) -> UNet2DConditionModel:
    """A copy of `unet` that ignores its timestep argument and always stands at `timestep`.

    The copy shares every weight with `unet` but the biases of the folded convolutions. Raises PahiError if a block
    uses the time embedding in another way than diffusers' default.
    """
    embedding = _time_embedding(unet, timestep)
    shared = {id(tensor): tensor for tensor in (*unet.parameters(), *unet.buffers())}
    folded = copy.deepcopy(unet, shared)
    for name, block in folded.named_modules():
        _check_block(name, block)
        if isinstance(block, ResnetBlock2D):
            _fold_block(block, embedding)
    folded.time_proj = nn.Identity()
    folded.time_embedding = _NoEmbedding()
    folded.time_embed_act = None
    return folded


class _NoEmbedding(nn.Module):
    def forward(self, *_: Tensor | None) -> None:
        return None


def _time_embedding(unet: UNet2DConditionModel, timestep: float) -> Tensor:
    weight = next(unet.parameters())
    time = unet.time_proj(torch.tensor([timestep], dtype=torch.float32, device=weight.device))
    embedding: Tensor = unet.time_embedding(time.to(weight.dtype))
    return embedding if unet.time_embed_act is None else unet.time_embed_act(embedding)


def _fold_block(block: ResnetBlock2D, embedding: Tensor) -> None:
    if block.time_emb_proj is None:
        return
    shift = block.time_emb_proj(embedding if block.skip_time_act else block.nonlinearity(embedding))[0]
    block.conv1.bias = nn.Parameter(block.conv1.bias + shift, requires_grad=False)
    block.time_emb_proj = None


def _check_block(name: str, block: nn.Module) -> None:
    kind = getattr(block, "time_embedding_norm", "default")
    if isinstance(block, ResnetBlockCondNorm2D) or (isinstance(block, ResnetBlock2D) and kind != "default"):
        raise PahiError(
            f"block {name} of the UNet uses its time embedding as {kind!r}, which cannot be folded into a bias",
            fix="export a model whose UNet has resnet_time_scale_shift = 'default', as SD 1.x, SD 2.x and SDXL have",
        )
