"""Fuses LoRA files into a model's weights, with diffusers' own loader.

    read_lora("style.safetensors:0.8") -> Lora -> fuse_loras(parts, [lora])

diffusers reads three layouts: its own, PEFT's and kohya's. It drops weights that do not fit the model and only logs
them. So what it has loaded is compared with the file, and the output of each layer before fusing with that after it.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import diffusers
import torch
from diffusers.utils import USE_PEFT_BACKEND
from safetensors.torch import load_file
from torch import Tensor, nn

from pahi_rt.errors import ModelError, ParityError
from pahi_rt.models.foreign import Refuse, foreign
from pahi_rt.models.weights import check_finite, some

NETWORKS = ("unet", "text_encoder", "text_encoder_2")
LOADED = "pahi_rt"
"""Name of the adapter while it is loaded."""
NEAR = 1e-4
"""How far fusing may move an output of a layer by rounding, as a share of the layer's largest output."""
_FIX = "give a LoRA of this model as .safetensors, in the layout of diffusers, PEFT or kohya"
_refuse: Refuse = partial(ModelError, fix=_FIX)


@dataclass(frozen=True)
class Lora:
    """A LoRA file, and the factor with which it is added."""

    path: Path
    scale: float = 1.0

    def __str__(self) -> str:
        return f"{self.path.name}:{self.scale:g}"


def read_lora(text: str | Path) -> Lora:
    """Parse FILE or FILE:SCALE. Raises ModelError if the file does not exist, or the scale is 0 or not a finite
    number."""
    path, scale = Path(text), 1.0
    if not path.is_file():
        name, _, number = str(text).rpartition(":")
        path, scale = Path(name), _read_number(number)
    if not path.is_file() or not math.isfinite(scale) or scale == 0:
        what = f"there is no LoRA at {text}: it is neither a file nor FILE:SCALE"
        raise ModelError(what, fix="write --lora style.safetensors, or --lora style.safetensors:0.8")
    return Lora(path, scale)


def _read_number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return math.nan


def fuse_loras(parts: dict[str, Any], loras: Sequence[Lora]) -> None:
    """Add LoRAs to the weights of a model's UNet and text encoders, in place and one after the other.

    Raises ModelError for a file that cannot be read, or that holds a weight which does not fit the model. Raises
    ParityError if a fused layer's output differs from that of diffusers with the LoRA beside the layer.
    """
    if not loras:
        return
    if not USE_PEFT_BACKEND:
        what = "a LoRA is fused with the package peft, which is not installed or too old"
        raise ModelError(what, fix="pip install 'pahi-rt[export]'")
    networks = [parts[name] for name in NETWORKS if name in parts]
    for lora in loras:
        _fuse(_pipeline(parts), networks, lora)


def _pipeline(parts: dict[str, Any]) -> Any:
    unused: dict[str, Any] = {"safety_checker": None, "feature_extractor": None, "requires_safety_checker": False}
    if "text_encoder_2" in parts:
        return diffusers.StableDiffusionXLPipeline(**parts, add_watermarker=False)
    return diffusers.StableDiffusionPipeline(**parts, **unused)


def _fuse(pipeline: Any, networks: Sequence[nn.Module], lora: Lora) -> None:
    with foreign(lora.path, _refuse):
        held = {name: value for name, value in load_file(lora.path).items() if not name.endswith(".alpha")}
    if not held:
        raise _refuse(f"there are no weights in {lora.path}")
    with foreign(f"the LoRA {lora.path}", _refuse):
        pipeline.load_lora_weights(str(lora.path.parent), weight_name=lora.path.name, adapter_name=LOADED)
    lost = _lost(held, networks)
    if lost:
        what = f"{len(lost)} of {len(held)} weights in {lora.path} have no place in this model: {some(lost)}"
        raise _refuse(what)
    probes = [probe for network in networks for probe in _probe(network, lora)]
    with foreign(f"the LoRA {lora.path}", _refuse):
        pipeline.fuse_lora(lora_scale=lora.scale, safe_fusing=True)
    for probe in probes:
        probe.check(lora)
    with foreign(f"the LoRA {lora.path}", _refuse):
        pipeline.unload_lora_weights()
    for network in networks:
        check_finite(network, lora.path, _refuse)


def _lost(held: dict[str, Tensor], networks: Sequence[nn.Module]) -> list[str]:
    """Names of the weights in the file that the loaded adapter lacks. Compared by content: the adapter renames them."""
    loaded = {
        _content(weight)
        for network in networks
        for name, weight in network.named_parameters()
        if LOADED in name.split(".")
    }
    return [name for name, weight in held.items() if _content(weight) not in loaded]


def _content(weight: Tensor) -> tuple[tuple[int, ...], bytes]:
    return tuple(weight.shape), weight.detach().float().contiguous().numpy().tobytes()


@dataclass(frozen=True)
class Probe:
    """A layer, an input for it, and the output with the LoRA beside it at its scale."""

    name: str
    layer: nn.Module
    example: Tensor
    expected: Tensor

    @torch.no_grad()
    def check(self, lora: Lora) -> None:
        """Raises ParityError unless the fused layer gives the expected output."""
        error = float((self.layer(self.example) - self.expected).abs().max() / self.expected.abs().max())
        if not error < NEAR:
            what = f"{self.name} gives something else once {lora} is fused: a difference of {error:.1g}"
            raise ParityError(what, fix="leave out --lora, and fuse it with the program that made it")


@torch.no_grad()
def _probe(network: nn.Module, lora: Lora) -> Iterator[Probe]:
    from peft.tuners.tuners_utils import BaseTunerLayer

    for name, layer in network.named_modules():
        if isinstance(layer, BaseTunerLayer):
            base = layer.get_base_layer()
            example = _example(base)
            without = base(example)
            yield Probe(name, layer, example, without + lora.scale * (layer(example) - without))


def _example(layer: nn.Module) -> Tensor:
    rng = torch.Generator().manual_seed(0)
    if isinstance(layer, nn.Conv2d):
        return torch.randn(1, layer.in_channels, 8, 8, generator=rng)
    if isinstance(layer, nn.Linear):
        return torch.randn(2, layer.in_features, generator=rng)
    raise _refuse(f"a LoRA of a {type(layer).__name__} is not supported")
