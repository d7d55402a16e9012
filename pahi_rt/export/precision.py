"""The precisions of graphs. Each is settled before the export, since runtimes take it from the graph.

fp32   arithmetic and weights as trained
w16    fp32 arithmetic; matrices are rounded to float16 and stored in 16 bits
w8     fp32 arithmetic; the generator's matrices are rounded to 255 levels for each output and stored in 8 bits
int8   convolutions are computed in 8 bits (`quantise`), the rest as w16
fp16   float16 arithmetic, except for the norms, the sampler, the prior, and the picture, which stay fp32
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from pahi_rt.errors import PahiError
from pahi_rt.export.fused import Fused
from pahi_rt.export.parity import EIGHT_BITS, SAME_ARITHMETIC, SIXTEEN_BITS, Tolerance
from pahi_rt.export.rounding import Pack, Packed, Round, as_float16, as_levels, to_float16, to_half, to_levels
from pahi_rt.models.generators import Generator


@dataclass(frozen=True)
class Precision:
    """How a graph of one precision is made, in the order of the export."""

    near: Tolerance
    """How near its pictures must come to those of PyTorch in fp32 with the weights as trained."""
    round: Round | None = None
    """Rounds the generator's matrices."""
    is_halved: bool = False
    """Whether the module is converted to float16."""
    is_quantised: bool = False
    """Whether the graph is converted to 8 bits."""
    pack: Pack = Packed
    """How the resulting weights are stored."""
    bytes_per_weight: int = 4
    """Disk space that it takes while it is written."""

    @property
    def is_32_bit(self) -> bool:
        """Whether it computes in 32 bits, however the weights are stored."""
        return not self.is_halved and not self.is_quantised

    @property
    def is_only_rounded(self) -> bool:
        """Whether rounding the weights is the only change, so that PyTorch can reproduce it exactly."""
        return self.round is not None and not self.is_quantised


ALL = {
    "fp32": Precision(SAME_ARITHMETIC),
    "w16": Precision(SIXTEEN_BITS, to_float16, pack=as_float16, bytes_per_weight=2),
    "w8": Precision(EIGHT_BITS, to_levels, pack=as_levels, bytes_per_weight=1),
    "int8": Precision(EIGHT_BITS, to_float16, is_quantised=True, pack=as_float16, bytes_per_weight=6),
    "fp16": Precision(SIXTEEN_BITS, is_halved=True, bytes_per_weight=2),
}

NORMS = (nn.GroupNorm, nn.LayerNorm)
"""Modules that stay fp32: they sum up squares of a whole picture's values, which float16 cannot hold."""


@torch.no_grad()
def halve(fused: Fused) -> None:
    """Convert a fused generator to float16, in place, and leave its prior as it is.

    It shares its weights with the generator that it was made from, so that generator is halved as well. Raises
    PahiError if a weight is out of float16's range.
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
            tensor.data = to_half(place, tensor)


def _widen(norm: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
    return (inputs[0].float(), *inputs[1:])


def _narrow(norm: nn.Module, inputs: tuple[Any, ...], output: Tensor) -> Tensor:
    return output.half()


@contextmanager
def half_values(generator: Generator) -> Iterator[None]:
    """While it is open, modules of `generator` hand each other values rounded to float16, and compute in fp32.

    The graph cannot show what that rounding does to its pictures: ONNX Runtime computes most float16 nodes of a CPU in
    fp32, and drops casts to float16 and back between neighbours. Raises PahiError, while drawing, if a module's values
    are out of float16's range.
    """
    with ExitStack() as hooks:
        for name, module in generator.named_modules():
            hooks.enter_context(module.register_forward_hook(partial(_round_output, name)))
            if isinstance(module, NORMS):  # sums that no module returns end in one
                hooks.enter_context(module.register_forward_pre_hook(partial(_round_input, name)))
        yield


def _round_input(name: str, norm: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
    return (_round_values(f"what {name} reads", inputs[0]), *inputs[1:])


def _round_output(name: str, module: nn.Module, inputs: tuple[Any, ...], output: Any) -> Any:
    """A part's own output is a record of tensors that its modules have returned."""
    is_real = isinstance(output, Tensor) and output.is_floating_point()
    return _round_values(f"what {name} returns", output) if is_real else output


def _round_values(what: str, values: Tensor) -> Tensor:
    half = values.half()
    if (half.isinf() & values.isfinite()).any():
        other = ", or with another --decoder" if "decoder." in what else ""
        raise PahiError(f"{what} is out of float16's range", fix=f"export with --precision fp32{other}")
    return half.float()
