"""Where the frozen weights lie, and in which type.

                                    while training                    while evaluating
    UNet, decoder                   half precision, on the device     float32, on the device
    scorers that train              half precision, on the device     float32, on the device
    scorers that only evaluate      on the CPU                        float32, on the device
    the generator's text encoders   float32, on the device            the same
    text towers of training scorers on the CPU but while they read    the same

Half precision is that of autocast, and holds exactly the numbers that autocast would make of the weights. It would make
them anew whenever a weight is used, for it remembers only casts of weights that want a gradient.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import torch
from torch import nn

CAST = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
"""What autocast casts weights and biases of. Norms keep theirs in float32, embeddings too."""
FUSED = (nn.MultiheadAttention, nn.TransformerEncoderLayer)
"""PyTorch may run these on a path that knows no autocast: it wants their weights in one type."""
CPU = torch.device("cpu")


class Placement:
    """Frozen modules, whose weights are as they are loaded until `train`, and again from `evaluate` on."""

    def __init__(
        self,
        device: torch.device = CPU,
        dtype: torch.dtype = torch.float32,
        training: Iterable[nn.Module] = (),
        evaluating: Iterable[nn.Module] = (),
        reading: Iterable[nn.Module] = (),
    ) -> None:
        """All modules lie on `device` in float32.

        Args:
            dtype: what autocast computes in; float32 if there is none.
            training: modules that training uses.
            evaluating: modules that evaluations alone use.
            reading: modules that are lent to the device by those who use them, and stay in float32. They may be parts
                of the others.
        """
        self._device, self._dtype = device, dtype
        self._evaluating, reading = list(evaluating), list(reading)
        self._is_training = False
        for module in reading:
            module.to(CPU)
        weights = dict.fromkeys(weight for module in training for weight in cast_weights(module))
        for weight in (weight for module in reading for weight in module.parameters()):
            weights.pop(weight, None)
        # On a CPU these share the memory of the weights as they are loaded.
        self._full = {} if dtype == torch.float32 else {weight: weight.data.cpu() for weight in weights}

    def train(self) -> None:
        """Let all be where training wants it. Does nothing if it is."""
        if self._is_training:
            return
        self._is_training = True
        for module in self._evaluating:
            module.to(CPU)
        for weight in self._full:
            weight.data = weight.data.to(self._dtype)

    def evaluate(self) -> None:
        """Let all be where an evaluation wants it, every weight as it was loaded. Does nothing if it is."""
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
    """While entered, `module` is on `device`; then it is where it was."""
    home = next(module.parameters()).device
    module.to(device)
    try:
        yield
    finally:
        module.to(home)
