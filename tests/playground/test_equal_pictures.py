"""The browser's half against Python, in Node: the same token ids, and pictures within two levels."""

from __future__ import annotations

import base64
import random
from pathlib import Path

import numpy as np
import pytest

from pahi_rt import Pipeline
from pahi_rt.bundle import open_bundle
from pahi_rt.errors import PromptError
from pahi_rt.tokenizer import Tokenizer
from tests.playground.conftest import Node
from tests.prompts import varied_prompt

pytestmark = pytest.mark.browser

PROMPTS = (
    *("a grinning cat", "panda", "red heart", "hamburger", "rocket", "octopus", "guitar", "skull", "a red apple"),
    *("PANDA!! 🐼", "cat " * 200, "it's a naïve ÄÖÜ", "fluent style whale", "a blue frog", "pizza and sushi", "🦖"),
    *("12345", "<|endoftext|>", "ΣΑΣ", "a sleepy face with tears of joy"),
)
SEEDS = (7, 2**64 - 2)


def test_ten_thousand_prompts_have_the_ids_of_tokenizers(node: Node, site: Path) -> None:
    """Of up to 1024 ids, as in tests/cpp: with the model's own 24, most of a prompt would be cut away."""
    python, chance = Tokenizer(open_bundle("emoji").path / "tokenizer.json", 1024, 0), random.Random(0)
    prompts = [varied_prompt(chance) for _ in range(10_000)]
    asked = {"file": "model/tokenizer.json.gz", "max_length": 1024, "pad_id": 0, "prompts": prompts}
    for prompt, found in zip(prompts, node("tokens", site, asked), strict=True):
        try:
            expected = python.encode([prompt]).input_ids[0].tolist()
        except PromptError:
            assert found["status"] == 400 and found["fix"], ascii(prompt)
            continue
        assert found == expected, ascii(prompt)


@pytest.mark.parametrize("steps, prior", [(1, "pahi"), (2, "hi")])
def test_pictures_are_those_of_python(node: Node, site: Path, steps: int, prior: str) -> None:
    """20 prompts, 2 seeds, without a prior and with it; fewer of them in two steps."""
    prompts = PROMPTS if steps == 1 else PROMPTS[:4]
    fixed = {"count": 1, "steps": steps, "prior": prior, "prior_strengths": [0, 1]}
    requests = [{"prompt": prompt, "seed": str(seed), **fixed} for prompt in prompts for seed in SEEDS]
    answer = node("pictures", site, {"requests": requests})
    pipeline = Pipeline.load("emoji", steps=steps, prior=prior, runtime="onnxruntime")
    asked = [(request["prompt"], seed) for request, seed in zip(requests, SEEDS * len(prompts), strict=True)]
    expected = [
        np.asarray(pipeline(str(prompt), seed=seed, prior_strength=strength), int)
        for prompt, seed in asked
        for strength in (0.0, 1.0)
    ]
    for drawn, wanted in zip(answer["pictures"], expected, strict=True):
        found = np.frombuffer(base64.b64decode(drawn["rgb"]), np.uint8).reshape(wanted.shape)
        assert np.abs(found - wanted).max() <= 2
    assert answer["draws_right"]
