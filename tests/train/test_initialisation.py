"""What a prior starts from."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import torch

from pahi_rt.train.initialisation import encode_pooled


def test_embeddings_leave_the_device() -> None:
    def encode(prompts: list[str]) -> Any:
        return SimpleNamespace(pooled=SimpleNamespace(cpu=lambda: torch.full((len(prompts), 3), len(prompts))))

    models: Any = SimpleNamespace(encode=encode)
    pooled = encode_pooled(models, ["a prompt"] * 100)
    assert pooled.shape == (100, 3)
    assert pooled[:, 0].unique().tolist() == [36, 64]
