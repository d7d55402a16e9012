"""Weights in half precision while training, with the gradients of autocast to the bit; and who lies where, when."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from transformers import CLIPConfig, CLIPModel

from pahi_rt.models import generators
from pahi_rt.models.placement import Placement, cast_weights, lent
from pahi_rt.models.random_models import Size, random_tokenizer, save_random_pipeline
from pahi_rt.scorers import clip, load_scorer
from pahi_rt.scorers.clip import ClipScorer
from pahi_rt.scorers.preprocess import Preprocess
from pahi_rt.train.frozen import Models, load_models, place
from pahi_rt.train.initialisation import build_prior
from pahi_rt.train.preference import Preference
from pahi_rt.train.processes import Processes
from pahi_rt.train.recipe import Recipe
from pahi_rt.train.trainer import Trainer
from pahi_rt.train.validation import Validation

PROMPTS = ("a cat", "a dog", "a hen", "a fox")
CPU, GPU = torch.device("cpu"), torch.device("meta")


class Casts(TorchDispatchMode):
    """Counts how often a weight is copied into another type."""

    def __init__(self, weights: list[nn.Parameter]) -> None:
        super().__init__()
        self.places = {weight.data_ptr() for weight in weights}
        self.count = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is torch.ops.aten._to_copy.default and args[0].data_ptr() in self.places:
            self.count += 1
        return func(*args, **(kwargs or {}))


class Noting(nn.Linear):
    """Says where it was moved, and stays."""

    def __init__(self) -> None:
        super().__init__(1, 1)
        self.moves: list[str] = []

    def to(self, device: torch.device) -> Noting:  # type: ignore[override]
        self.moves.append(device.type)
        return self


@pytest.fixture
def scorer() -> ClipScorer:
    shared = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
    text = {**shared, "vocab_size": 600, "max_position_embeddings": 24, "bos_token_id": 598, "eos_token_id": 2}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        config = CLIPConfig(vision_config={**shared, "image_size": 32, "patch_size": 8}, text_config=text)
        model = CLIPModel(config)
    return ClipScorer("pickscore", model, random_tokenizer(600, 24), Preprocess(32))


@pytest.fixture(scope="module")
def pipelines(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Size], Path]:
    folder = tmp_path_factory.mktemp("models")

    def path(size: Size) -> Path:
        return folder / size if (folder / size).exists() else save_random_pipeline(folder / size, size)

    return path


@pytest.fixture
def models(pipelines: Callable[[Size], Path], scorer: ClipScorer, one_thread: None) -> Callable[..., Models]:
    def load(size: Size = "tiny", checkpointing: bool = False) -> Models:
        path = str(pipelines(size))
        loaded = load_models(
            path, None, [], steps=1, device=CPU, checkpointing=checkpointing, stage=lambda _: nullcontext()
        )
        return replace(loaded, scorers={"pickscore": scorer, "redness": load_scorer("redness")})

    return load


@pytest.fixture
def trainer(make_recipe: Callable[..., Recipe]) -> Callable[..., Trainer]:
    def make(models: Models, autocast: str = "bf16", **settings: Any) -> Trainer:
        made = make_recipe(batch=2, micro_batch=2, autocast=autocast, **settings)
        prior = build_prior("pahi", made, models.generator)
        return Trainer(prior, models, PROMPTS, Preference({"pickscore": 1.0}), made.optimisation, Processes())

    return make


@pytest.mark.parametrize(("size", "checkpointing"), [("tiny", False), ("tiny", True), ("tiny-lcm", False)])
def test_the_gradient_is_that_of_autocast_to_the_bit(
    size: Size, checkpointing: bool, models: Callable[..., Models], trainer: Callable[..., Trainer]
) -> None:
    loaded = models(size, checkpointing)
    expected = trainer(loaded).rehearse()
    placed = place(loaded, torch.bfloat16, ["pickscore"])
    assert torch.equal(trainer(placed).rehearse(), expected)
    assert loaded.generator.unet.conv_in.weight.dtype == torch.bfloat16
    assert loaded.generator.unet.conv_norm_out.weight.dtype == torch.float32
    assert {weight.dtype for weight in loaded.generator.text_encoder.parameters()} == {torch.float32}


def test_no_weight_is_cast_when_it_is_used(models: Callable[..., Models], trainer: Callable[..., Trainer]) -> None:
    loaded = models()
    unet = list(cast_weights(loaded.generator.unet))
    loaded.remember(PROMPTS, ["pickscore"])
    with Casts(unet) as before:
        trainer(loaded).rehearse()
    assert before.count == 2 * len(unet)  # for s and for s'
    placed = trainer(place(loaded, torch.bfloat16, ["pickscore"]))
    placed.models.placement.train()
    scorer: Any = loaded.scorers["pickscore"]
    halves = [*cast_weights(loaded.generator.unet), *cast_weights(loaded.generator.decoder)]
    with Casts([*halves, *cast_weights(scorer.model.vision_model)]) as after:
        placed.rehearse()
    assert after.count == 0


def test_evaluations_are_in_float32_and_training_goes_on_after_them(
    models: Callable[..., Models], trainer: Callable[..., Trainer]
) -> None:
    loaded = models()
    whole = {name: tensor.clone() for name, tensor in loaded.generator.state_dict().items()}
    plain = Validation(loaded, PROMPTS, ["pickscore", "redness"], 0, 2, Processes()).gaussian
    placed = place(loaded, torch.bfloat16, ["pickscore"])
    made = trainer(placed)
    gradient = made.rehearse()
    assert torch.equal(Validation(placed, PROMPTS, ["pickscore", "redness"], 0, 2, Processes()).gaussian, plain)
    for name, tensor in loaded.generator.state_dict().items():
        assert torch.equal(tensor, whole[name]) and tensor.dtype == whole[name].dtype
    assert torch.equal(made.rehearse(), gradient)


def test_without_autocast_all_weights_stay(models: Callable[..., Models], trainer: Callable[..., Trainer]) -> None:
    loaded = models()
    expected = trainer(loaded, "no").rehearse()
    assert torch.equal(trainer(place(loaded, torch.float32, ["pickscore"]), "no").rehearse(), expected)
    assert {weight.dtype for weight in loaded.generator.parameters()} == {torch.float32}


def test_the_sampler_computes_in_float32(models: Callable[..., Models], monkeypatch: pytest.MonkeyPatch) -> None:
    """x0 = x_T - 14.6 eps: numbers of size 14 whose difference is of size 1, of which bf16 would leave 4 bits."""
    generator = models().generator
    schedule = generator.schedule(1)
    monkeypatch.setattr(generators, "decode_latents", lambda decoder, latents, scale: latents)
    monkeypatch.setattr(generator.unet, "forward", lambda latents, *_, **__: SimpleNamespace(sample=latents.bfloat16()))
    noise = torch.randn(1, *generator.latent_shape, generator=torch.Generator().manual_seed(0))
    latents = noise * schedule.noise_scale
    output = (latents / (schedule.sigmas[0] ** 2 + 1) ** 0.5).bfloat16().float()
    with torch.autocast("cpu", torch.bfloat16):
        drawn = generator.draw(models().encode(["a cat"]), noise)
    assert torch.equal(drawn, latents - schedule.sigmas[0] * output)


@pytest.mark.parametrize("spec", ["emoji-a", "emoji-b"])
def test_the_emoji_scorers_too(spec: str, models: Callable[..., Models]) -> None:
    """One of them has a transformer layer, which PyTorch may run on a path that knows no autocast."""
    scorer: Any = load_scorer(spec)
    pictures = torch.rand(2, 3, 128, 128, generator=torch.Generator().manual_seed(0)).requires_grad_()

    def score() -> tuple[Tensor, Tensor]:
        with torch.autocast("cpu", torch.bfloat16):
            scores = scorer.score(pictures, ["a cat", "a dog"])
        return scores, torch.autograd.grad(scores.sum(), pictures)[0]

    expected = score()
    Placement(CPU, torch.bfloat16, training=[scorer]).train()
    assert all(torch.equal(one, other) for one, other in zip(score(), expected, strict=True))


def test_who_lies_where() -> None:
    """The meta device stands in for a GPU."""
    judges, reads = Noting(), Noting()
    placement = Placement(GPU, torch.float16, evaluating=[judges], waiting=[reads])
    for switch, places in ((placement.train, ["cpu"]), (placement.evaluate, ["cpu", "meta"])):
        switch()
        switch()
        assert judges.moves == places
    placement.train()
    assert (judges.moves, reads.moves) == (["cpu", "meta", "cpu"], ["cpu"])


def test_what_is_lent_comes_back() -> None:
    module = Noting()
    with pytest.raises(KeyError), lent(module, GPU):
        raise KeyError
    assert module.moves == ["meta", "cpu"]


def test_prompts_are_read_in_float32(models: Callable[..., Models]) -> None:
    loaded = models()
    scorer: Any = loaded.scorers["pickscore"]
    expected = deepcopy(scorer).embed_prompts(PROMPTS)
    place(loaded, torch.bfloat16, ["pickscore"]).placement.train()
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(scorer.embed_prompts(PROMPTS), expected)


@pytest.fixture
def read(scorer: ClipScorer, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The prompts that the scorer has read, in order."""
    read: list[str] = []
    tokenize = scorer.tokenize

    def spy(prompts: Sequence[str]) -> Tensor:
        read.extend(prompts)
        return tokenize(prompts)

    monkeypatch.setattr(scorer, "tokenize", spy)
    return read


def test_a_prompt_is_read_once(scorer: ClipScorer, read: list[str]) -> None:
    first = scorer.embed_prompts(["a cat", "a dog", "a cat"])
    assert torch.equal(first[0], first[2]) and not torch.equal(first[0], first[1])
    assert torch.equal(scorer.embed_prompts(["a dog"])[0], first[1])
    assert read == ["a cat", "a dog"]


def test_an_embedding_does_not_depend_on_what_else_is_read(scorer: ClipScorer) -> None:
    together = deepcopy(scorer).embed_prompts(PROMPTS)
    with torch.autocast("cpu", torch.bfloat16):
        alone = [scorer.embed_prompts([prompt])[0] for prompt in reversed(PROMPTS)]
    assert torch.equal(together, torch.stack(alone[::-1]))


def test_not_all_prompts_are_remembered(scorer: ClipScorer, read: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clip, "KEPT", 2)
    assert scorer.embed_prompts(PROMPTS).shape[0] == 4
    scorer.embed_prompts(["a hen", "a fox"])
    assert read == list(PROMPTS)
    scorer.embed_prompts(["a cow"])
    scorer.embed_prompts(["a fox", "a cow"])
    assert read == [*PROMPTS, "a cow"]
    scorer.embed_prompts(["a hen"])
    assert read == [*PROMPTS, "a cow", "a hen"]
