"""What a graph computes in, settled before it is exported: runtimes take it from the graph.

fp32   as it was trained
w16    fp32 too; matrices are rounded to what float16 can hold, and stored as that
fp16   float16, but for the norms, the arithmetic of the sampler, the prior, and the picture
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

from pahi_rt.errors import PahiError
from pahi_rt.export.fused import Fused

NORMS = (nn.GroupNorm, nn.LayerNorm)
"""They sum up squares of a whole picture's values, which float16 can neither hold nor add up."""


@torch.no_grad()
def round_matrices(model: nn.Module) -> None:
    """Round, in place, every parameter of two or more axes to what float16 can hold.

    Vectors (biases and norms, a thousandth of all weights) keep their precision. Raises PahiError if a weight is out of
    float16's range.
    """
    for name, parameter in model.named_parameters():
        if parameter.dim() >= 2:
            parameter.copy_(_half(name, parameter))


@torch.no_grad()
def halve(fused: Fused) -> None:
    """Let a fused generator compute in float16, in place; its prior stays as it is.

    Its weights are those of the generator that it was made from, so that generator is halved as well. Raises PahiError
    if a weight is out of float16's range.
    """
    fused.dtype = torch.float16
    for part, model in fused.named_children():
        if part == "prior":
            continue
        for name, module in model.named_modules(prefix=part):
            if isinstance(module, NORMS):
                module.register_forward_pre_hook(_widen)
                module.register_forward_hook(_narrow)
            else:
                _halve_own(name, module)


def _halve_own(name: str, module: nn.Module) -> None:
    own: Iterable[tuple[str, Tensor]] = (*module.named_parameters(name, False), *module.named_buffers(name, False))
    for place, tensor in own:
        if tensor.is_floating_point():
            tensor.data = _half(place, tensor)


def _half(name: str, tensor: Tensor) -> Tensor:
    half = tensor.half()
    if not half.isfinite().all():
        raise PahiError(f"{name} is out of float16's range", fix="export with --precision fp32")
    return half


def _widen(norm: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
    return (inputs[0].float(), *inputs[1:])


def _narrow(norm: nn.Module, inputs: tuple[Any, ...], output: Tensor) -> Tensor:
    return output.half()
