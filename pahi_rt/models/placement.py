"""Where the frozen weights are kept, and in which type.

                                    while training                    while evaluating
    UNet, decoder                   half precision, on the device     float32, on the device
    scorers that train              half precision, on the device     float32, on the device
    scorers that only evaluate      on the CPU                        float32, on the device
    the generator's text encoders   float32, on the device            the same
    text towers of training scorers on the CPU, lent while they embed the same

Half precision is the type of autocast. The weights have exactly the values that autocast would cast them to; it would
cast frozen weights again at every use, because it caches only casts of weights that require a gradient.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import torch
from torch import nn

CAST = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
"""Modules whose weights and biases autocast casts. Those of norms and embeddings stay in float32."""
FUSED = (nn.MultiheadAttention, nn.TransformerEncoderLayer)
"""Modules that PyTorch may run on a fast path without autocast, which needs all their weights in one type."""
CPU = torch.device("cpu")


class Placement:
    """Frozen modules, and the switch between `train` and `evaluate`. Weights are first as they were loaded."""

    def __init__(
        self,
        device: torch.device = CPU,
        dtype: torch.dtype = torch.float32,
        training: Iterable[nn.Module] = (),
        evaluating: Iterable[nn.Module] = (),
        waiting: Iterable[nn.Module] = (),
    ) -> None:
        """All modules are on `device`, in float32.

        Args:
            dtype: the type of autocast; float32 without autocast.
            training: modules that training uses.
            evaluating: modules that only evaluations use.
            waiting: modules that wait on the CPU in float32, and that their users lend to the device (`lent`). They may
                be parts of the others.
        """
        self._device, self._dtype = device, dtype
        self._evaluating, waiting = list(evaluating), list(waiting)
        self._is_training = False
        for module in waiting:
            module.to(CPU)
        weights = dict.fromkeys(weight for module in training for weight in cast_weights(module))
        for weight in (weight for module in waiting for weight in module.parameters()):
            weights.pop(weight, None)
        # On a CPU these share memory with the loaded weights.
        self._full = {} if dtype == torch.float32 else {weight: weight.data.cpu() for weight in weights}

    def train(self) -> None:
        """Move and cast everything for training. Does nothing if that is done."""
        if self._is_training:
            return
        self._is_training = True
        for module in self._evaluating:
            module.to(CPU)
        for weight in self._full:
            weight.data = weight.data.to(self._dtype)

    def evaluate(self) -> None:
        """Move everything back for an evaluation, every weight as it was loaded. Does nothing if that is done."""
        if not self._is_training:
            return
        self._is_training = False
        for weight, full in self._full.items():
            weight.data = full.to(self._device)
        for module in self._evaluating:
            module.to(self._device)


def cast_weights(module: nn.Module) -> Iterator[nn.Parameter]:
    """The weights in `module` that autocast casts at every use."""
    if isinstance(module, FUSED):
        return
    if isinstance(module, CAST):
        yield from module.parameters(recurse=False)
    for child in module.children():
        yield from cast_weights(child)


@contextmanager
def lent(module: nn.Module, device: torch.device) -> Iterator[None]:
    """Move `module` to `device` while entered, and back at the end."""
    home = next(module.parameters()).device
    module.to(device)
    try:
        yield
    finally:
        module.to(home)
