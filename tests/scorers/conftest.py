"""Pictures, and weights in the layouts that others publish."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import CLIPConfig, CLIPModel

from pahi_rt.models.random_models import random_tokenizer

Shapes = Mapping[str, Sequence[int]]
PROMPTS = ("a red cat", "the house by the sea at night", "a red cat")


@pytest.fixture
def prompts() -> list[str]:
    return list(PROMPTS)


@pytest.fixture
def images() -> Tensor:
    """Three pictures [3, 3, 40, 52] of smooth random colours, in [0, 1]."""
    generator = torch.Generator().manual_seed(0)
    coarse = torch.rand(3, 3, 6, 6, generator=generator)
    return torch.nn.functional.interpolate(coarse, size=(40, 52), mode="bilinear")


@pytest.fixture
def random_weights() -> Callable[[Shapes], dict[str, Tensor]]:
    """Tensors of the given shapes that keep the variance from layer to layer, and all differ."""

    def draw(shapes: Shapes) -> dict[str, Tensor]:
        generator = torch.Generator().manual_seed(0)
        return {name: _draw(name, shape, generator) for name, shape in shapes.items()}

    return draw


def _draw(name: str, shape: Sequence[int], generator: torch.Generator) -> Tensor:
    noise = torch.randn(tuple(shape), generator=generator)
    if "embed" in name or "token" in name:
        return noise * 0.5
    if len(shape) >= 2:
        return noise / math.prod(shape[1:]) ** 0.5
    return 0.2 * noise + name.endswith("weight")


@pytest.fixture
def save_clip(random_weights: Callable[[Shapes], dict[str, Tensor]]) -> Callable[..., Path]:
    """Write a CLIP with random weights, and a tokenizer, into a folder as transformers does."""

    def save(folder: Path, vision: dict[str, Any], text: dict[str, Any], width: int) -> Path:
        vocabulary = text["vocab_size"]
        text = {"bos_token_id": vocabulary - 2, **text}
        config = CLIPConfig(vision_config=vision, text_config=text, projection_dim=width)
        model = CLIPModel(config)
        shapes = {name: value.shape for name, value in model.state_dict().items()}
        model.load_state_dict({**random_weights(shapes), "logit_scale": torch.tensor(4.6052)})
        model.save_pretrained(folder)
        random_tokenizer(vocabulary, text.get("max_position_embeddings", 77)).save_pretrained(folder)
        return folder

    return save


@pytest.fixture
def tiny_clip(tmp_path: Path, save_clip: Callable[..., Path]) -> Path:
    """A folder with a CLIP: pictures of 32 pixels, 24 tokens, embeddings of 16 numbers."""
    shared = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
    vision = {**shared, "image_size": 32, "patch_size": 8}
    # The published configurations state 2 as the end token, which is wrong; transformers then looks for the highest.
    text = {**shared, "vocab_size": 600, "max_position_embeddings": 24, "eos_token_id": 2}
    return save_clip(tmp_path / "clip", vision, text, 16)


@pytest.fixture
def no_hub(monkeypatch: pytest.MonkeyPatch) -> None:
    """The hub cannot be reached."""
    from huggingface_hub.errors import LocalEntryNotFoundError

    def refuse(*arguments: Any, **options: Any) -> str:
        raise LocalEntryNotFoundError("offline")

    monkeypatch.setattr("huggingface_hub.snapshot_download", refuse)


@pytest.fixture
def check_gradients() -> Callable[[Any, Tensor, Sequence[str]], None]:
    """Fails unless gradients reach every picture and no weight."""

    def check(scorer: Any, images: Tensor, prompts: Sequence[str]) -> None:
        images = images.clone().requires_grad_()
        scorer.score(images, prompts).sum().backward()
        assert images.grad is not None
        assert images.grad.isfinite().all()
        assert (images.grad.abs().amax(dim=(1, 2, 3)) > 0).all()
        assert not any(parameter.requires_grad for parameter in scorer.parameters())
        assert not scorer.training

    return check
