"""The real classes at tiny size: what gradient checkpointing, autocast and torch.compile do to a step."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path

import pytest
import torch
from torch import Tensor

from pahi_rt.errors import PahiError
from pahi_rt.models.random_models import save_random_pipeline
from pahi_rt.train.frozen import Models, compile_models, load_models, settle_precision
from pahi_rt.train.initialisation import build_prior
from pahi_rt.train.preference import Preference
from pahi_rt.train.processes import Processes
from pahi_rt.train.recipe import Recipe
from pahi_rt.train.trainer import Trainer

PROMPTS = ("a cat", "a dog", "a hen")
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def pipeline(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_random_pipeline(tmp_path_factory.mktemp("models") / "tiny")


Load = Callable[..., Models]


@pytest.fixture
def load(pipeline: Path, one_thread: None) -> Load:
    def make(checkpointing: bool = False, steps: int = 1) -> Models:
        stages: list[str] = []

        def stage(name: str) -> nullcontext[None]:
            stages.append(name)
            return nullcontext()

        specs = ["redness", "redness"]
        models = load_models(
            str(pipeline), None, specs, steps=steps, device=CPU, checkpointing=checkpointing, stage=stage
        )
        assert stages == ["load generator", "load scorer redness"]
        return models

    return make


@pytest.fixture
def gradient(make_recipe: Callable[..., Recipe]) -> Callable[..., Tensor]:
    """The first step's gradient of a new prior."""

    def compute(models: Models, autocast: str = "no") -> Tensor:
        made = make_recipe(batch=2, micro_batch=2, autocast=autocast)
        prior = build_prior("hi", made, models.generator)
        return Trainer(prior, models, PROMPTS, Preference({"redness": 1.0}), made.optimisation, Processes()).rehearse()

    return compute


def kept_bytes(models: Models) -> int:
    """What autograd keeps of one picture and its score."""
    sizes: list[int] = []
    noise = torch.randn(1, *models.generator.latent_shape, generator=torch.Generator().manual_seed(0)).requires_grad_()

    def note(tensor: Tensor) -> Tensor:
        sizes.append(tensor.nbytes)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        models.score("redness", models.draw(models.encode(["a cat"]), noise), ["a cat"])
    return sum(sizes)


def test_checkpointing_keeps_less_and_has_the_same_gradient(load: Load, gradient: Callable[..., Tensor]) -> None:
    plain, checkpointed = load(), load(checkpointing=True)
    assert kept_bytes(checkpointed) < 0.5 * kept_bytes(plain)
    assert torch.allclose(gradient(plain), gradient(checkpointed), atol=1e-6)


def test_float32_is_not_tf32(load: Load) -> None:
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = True
    load()
    assert not torch.backends.cudnn.allow_tf32
    assert not torch.backends.cuda.matmul.allow_tf32


def test_bf16_has_nearly_the_same_gradient(load: Load, gradient: Callable[..., Tensor]) -> None:
    models = load()
    plain, half = gradient(models), gradient(models, autocast="bf16")
    assert torch.nn.functional.cosine_similarity(plain, half, dim=0) > 0.98


def test_the_prior_reads_float32_under_autocast(load: Load) -> None:
    models = load()
    with torch.autocast("cpu", torch.bfloat16):
        half = models.encode(PROMPTS).pooled
    assert torch.equal(half, models.encode(PROMPTS).pooled)


def test_more_steps_than_the_generator_takes(load: Load) -> None:
    with pytest.raises(PahiError, match="5 sampling steps"):
        load(steps=5)


@pytest.mark.parametrize("has_bfloat16", [False, True])
def test_the_precision_is_settled_by_the_processor(
    has_bfloat16: bool, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("pahi_rt.train.frozen.has_bfloat16", lambda: has_bfloat16)
    assert settle_precision("auto", CPU) == ("bf16" if has_bfloat16 else "no")
    assert settle_precision("no", CPU) == "no"
    assert not caplog.messages
    # It is slow without instructions, but right, and a run that began on another machine must be able to go on.
    assert settle_precision("bf16", CPU) == "bf16"
    assert ("emulates bfloat16" in caplog.text) != has_bfloat16
    with pytest.raises(PahiError, match="fp16 needs a GPU"):
        settle_precision("fp16", CPU)


@pytest.mark.parametrize("has_bfloat16", [False, True])
def test_the_precision_is_settled_by_the_gpu(has_bfloat16: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_bf16_supported", lambda including_emulation: has_bfloat16)
    gpu = torch.device("cuda")
    assert settle_precision("auto", gpu) == ("bf16" if has_bfloat16 else "no")
    assert settle_precision("fp16", gpu) == "fp16"
    if not has_bfloat16:
        with pytest.raises(PahiError, match="this GPU has no bfloat16"):
            settle_precision("bf16", gpu)


@pytest.mark.slow
@pytest.mark.filterwarnings("default")  # PyTorch warns about itself while it compiles
def test_compiled_models_have_the_same_gradient(load: Load, gradient: Callable[..., Tensor]) -> None:
    plain, compiled = load(), load()
    compile_models(compiled)
    # Rounding puts a few of the decoder's ReLUs on the other side of their kink.
    assert torch.nn.functional.cosine_similarity(gradient(plain), gradient(compiled), dim=0) > 0.999
