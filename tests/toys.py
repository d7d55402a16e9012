"""A toy in a generator's place, whose pictures are its noise, enlarged and tinted; it trains in milliseconds."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from pahi_rt.models.conditioning import Conditioning
from pahi_rt.scorers.redness import Redness
from pahi_rt.train.frozen import Models
from pahi_rt.train.recipe import Optimisation, Pretraining, PriorSettings, PromptSettings, Recipe, Scorers

ANIMALS = "ant bee cat cow dog eel elk emu fly fox gnu hen hog owl pig yak"
PROMPTS = [f"a {animal}" for animal in ANIMALS.split()]

MakeRecipe = Callable[..., Recipe]


class ToyGenerator(nn.Module):
    """What training asks of a generator."""

    latent_shape = (3, 4, 4)
    pooled_width = 6

    def __init__(self) -> None:
        super().__init__()
        self.tint = nn.Parameter(torch.tensor([0.1, 0.0, -0.1]).view(3, 1, 1), requires_grad=False)

    def schedule(self, steps: int) -> None:
        """Any number of steps will do."""

    def tokenize(self, prompts: Sequence[str]) -> Tensor:
        return torch.tensor([[zlib.crc32(prompt.encode())] for prompt in prompts])

    def encode_prompt(self, input_ids: Tensor) -> Conditioning:
        angles = input_ids * torch.arange(1, self.pooled_width + 1) / 2**32
        return Conditioning(angles.sin()[:, None], angles.sin())

    def draw(self, conditioning: Conditioning, noise: Tensor, steps: int = 1) -> Tensor:
        tint = conditioning.pooled[:, :3, None, None] / 10 + self.tint
        return nn.functional.interpolate((noise / 6 + 0.5 + tint).clamp(0, 1), scale_factor=2)


class Greenness(Redness):
    """A second scorer: the more green, the better."""

    name = "greenness"

    def score(self, images: Tensor, prompts: Sequence[str]) -> Tensor:
        return super().score(images.roll(-1, dims=1), prompts)


@pytest.fixture
def one_thread() -> Iterator[None]:
    """Threads only wait for each other when tensors are this small."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def toy_models() -> Models:
    return Models(ToyGenerator(), {"redness": Redness(), "greenness": Greenness()})  # type: ignore[arg-type]


@pytest.fixture
def recipe(
    make_recipe: MakeRecipe, toy_models: Models, one_thread: None, monkeypatch: pytest.MonkeyPatch
) -> MakeRecipe:
    """`make_recipe`, with the toy in place of what the recipe names."""
    monkeypatch.setattr("pahi_rt.train.frozen.load_generator", lambda source, decoder, variant: toy_models.generator)
    monkeypatch.setattr("pahi_rt.train.frozen.load_scorer", lambda spec: toy_models.scorers[spec])
    return make_recipe


@pytest.fixture
def make_recipe(tmp_path: Path) -> MakeRecipe:
    """Makes a recipe; arguments replace settings of the tables that have them."""
    source = tmp_path / "prompts.txt"
    source.write_text("\n".join(PROMPTS))

    def make(**settings: Any) -> Recipe:
        made = Recipe(
            generator="toy",
            prompts=PromptSettings(str(source), validation=5, test=4),
            scorers=Scorers({"redness": 1.0}, ("redness", "greenness")),
            prior=PriorSettings(hidden=8, init="zero"),
            optimisation=Optimisation(
                batch=6, micro_batch=3, learning_rate=0.01, warmup_steps=4, evaluate_every=4, max_steps=10
            ),
            pretraining=Pretraining(steps=3, batch=4, decoder_hidden=8),
        )
        for table in ("prompts", "scorers", "prior", "optimisation"):
            part = getattr(made, table)
            chosen = {name: value for name, value in settings.items() if hasattr(part, name)}
            made = replace(made, **{table: replace(part, **chosen)})
        return made

    return make
