"""How PyTorch computes in float32 on a GPU."""

from __future__ import annotations

import torch


def forgo_tf32() -> None:
    """Let float32 be float32: otherwise PyTorch rounds what a convolution multiplies to the 10 bits of TF32.

    PyTorch has one switch for the whole process. Those who load models for a device set it, once, and nobody sets it
    back: work that is half done in another arithmetic would look like any other.
    """
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
