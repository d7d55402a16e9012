"""A prompt's token ids -> what the UNet and the prior take of it. Exported graphs call these functions too."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor
from torch.nn import functional as F
from transformers import CLIPTextModel, CLIPTextModelWithProjection


@dataclass(frozen=True)
class Conditioning:
    """A prompt as the UNet and the prior take it."""

    embeddings: Tensor
    """[B, T, D]: input of the UNet's cross-attention."""
    pooled: Tensor
    """[B, P]: the text encoder's state at the end token, after the final norm; for SDXL, that of the second encoder,
    projected. It is the input of PAHI: E(c) in eq. (7)."""
    added: dict[str, Tensor] = field(default_factory=dict)
    """Only for SDXL: text_embeds [B, P] and time_ids [B, 6]."""


def encode_prompt(text_encoder: CLIPTextModel, input_ids: Tensor, mask: Tensor | None = None) -> Conditioning:
    """Token ids [B, T] -> conditioning, for a model with one text encoder (SD 1.x, SD 2.x).

    `mask` [B, T] is 0 at positions that the encoder must not attend to.
    """
    output = text_encoder(input_ids, attention_mask=mask)
    return Conditioning(output.last_hidden_state, output.pooler_output)


def encode_prompt_twice(
    text_encoder: CLIPTextModel,
    text_encoder_2: CLIPTextModelWithProjection,
    input_ids: Tensor,
    input_ids_2: Tensor,
    time_ids: Tensor,
) -> Conditioning:
    """Token ids [B, T] for each encoder, and time ids [1, 6] -> conditioning, for a model with two encoders (SDXL).

    SDXL uses the output of both encoders' second-to-last layer, before the final norm.
    """
    first = text_encoder(input_ids, output_hidden_states=True)
    second = text_encoder_2(input_ids_2, output_hidden_states=True)
    embeddings = torch.cat([first.hidden_states[-2], second.hidden_states[-2]], dim=-1)
    # Not len(input_ids): it would fix the batch size in the exported graph.
    added = {"text_embeds": second.text_embeds, "time_ids": time_ids.expand(input_ids.shape[0], -1)}
    return Conditioning(embeddings, second.text_embeds, added)


def mark_prompt(input_ids: Tensor, end: int, pad: int) -> Tensor:
    """Token ids [B, T], padded with `pad` after the last `end` -> bool [B, T]: True for the prompt, False for padding.

    Where the end token is also the padding, the first of the trailing run belongs to the prompt. If the last word of
    the prompt is the end token spelt out, that word counts as the prompt's end.
    """
    positions = torch.arange(input_ids.shape[1], device=input_ids.device)
    last = torch.where(input_ids != pad, positions, 0).amax(dim=1, keepdim=True)
    return positions <= last + int(pad == end)


def pad_again(input_ids: Tensor, end: int, pad: int, new_pad: int) -> Tensor:
    """Token ids [B, T], padded with `pad` after the last `end` -> the same ids, padded with `new_pad`.

    One tensor of ids then serves both encoders of SDXL, whose tokenizers differ only in their padding: the second is
    OpenCLIP's, which pads with 0. (In diffusers the second tokenizer also reads every "!" of a prompt as padding,
    because its pad token is spelt "!". OpenCLIP, with which the encoder was trained, does not, and neither does this.)
    """
    return torch.where(mark_prompt(input_ids, end, pad), input_ids, new_pad)


def embed_guidance(scale: float, width: int) -> Tensor:
    """Guidance scale -> its embedding [1, width], which the UNet of an LCM reads beside its timestep.

    The values are those of diffusers' get_guidance_scale_embedding. Angles reach thousands, so float32 gives the same
    values only if it rounds in the same order.
    """
    half = width // 2
    frequencies = torch.exp(torch.arange(half, dtype=torch.float32) * -(torch.log(torch.tensor(10000.0)) / (half - 1)))
    angles = torch.tensor(scale - 1) * 1000.0 * frequencies
    return F.pad(torch.cat([angles.sin(), angles.cos()]), (0, width % 2))[None]
