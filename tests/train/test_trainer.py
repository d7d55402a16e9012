"""One step of the optimiser against what it should be."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from pahi_rt.errors import PahiError
from pahi_rt.models.priors import HI
from pahi_rt.train import trainer as trainer_module
from pahi_rt.train.batches import TRAINING, choose_prompts, draw_pairs
from pahi_rt.train.frozen import Models
from pahi_rt.train.gradients import GRADIENTS, Running
from pahi_rt.train.initialisation import build_prior
from pahi_rt.train.preference import Preference
from pahi_rt.train.processes import Processes
from pahi_rt.train.recipe import Optimisation, Recipe
from pahi_rt.train.trainer import Trainer, check_gradient, learning_rate

PROMPTS = tuple(f"prompt {number}" for number in range(9))
REDNESS = Preference({"redness": 1.0})

MakeTrainer = Callable[..., Trainer]


@pytest.fixture
def trainer(recipe: Callable[..., Recipe], toy_models: Models) -> MakeTrainer:
    def make(
        kind: str = "hi", preference: Preference = REDNESS, models: Models = toy_models, **settings: Any
    ) -> Trainer:
        made = recipe(**settings)
        prior = build_prior(kind, made, models.generator)
        return Trainer(prior, models, PROMPTS, preference, made.optimisation, Processes())

    return make


def gradient(trainer: Trainer) -> Tensor:
    return torch.cat([p.grad.flatten() for p in trainer.parameters if p.grad is not None])


@pytest.mark.parametrize(("step", "rate"), [(0, 1e-5), (5_000, 1.5e-5), (10_000, 2e-5), (10_001, 2e-5), (10**9, 2e-5)])
def test_the_papers_warm_up(step: int, rate: float) -> None:
    assert learning_rate(Optimisation(learning_rate=2e-5), step) == pytest.approx(rate)


def test_no_warm_up() -> None:
    assert learning_rate(Optimisation(learning_rate=0.5, warmup_steps=0), 0) == 0.5


@pytest.mark.parametrize("kind", GRADIENTS)
@pytest.mark.parametrize("micro_batch", [1, 2, 3])
def test_micro_batches_have_the_gradient_of_the_batch(micro_batch: int, kind: str, trainer: MakeTrainer) -> None:
    whole, parts = (trainer("pahi", micro_batch=count, gradient=kind) for count in (6, micro_batch))
    for made in (whole, parts):
        made.take_step()
        made.take_step()
        assert gradient(made).any()
    assert torch.allclose(gradient(whole), gradient(parts), atol=1e-6)
    assert whole.running.loss == pytest.approx(parts.running.loss)
    assert whole.running.length == pytest.approx(parts.running.length)


@pytest.mark.parametrize("kind", GRADIENTS)
def test_every_kind_of_gradient_learns(kind: str, trainer: MakeTrainer) -> None:
    """The toy's redness is nearly linear in the noise, so that all point the same way."""
    made = trainer("hi", gradient=kind, batch=6, learning_rate=0.03, warmup_from=0.03)
    steps = [made.take_step()[0] for _ in range(40)]
    assert sum(step.loss for step in steps[-8:]) < sum(step.loss for step in steps[:8]) - 0.3
    assert steps[-1].kl_nats > 0


def test_the_first_step_of_a_clipped_gradient_only_measures(trainer: MakeTrainer) -> None:
    made = trainer("hi", gradient="clipped")
    before = [parameter.clone() for parameter in made.parameters]
    assert made.rehearse().any() and made.running == Running()
    step, _ = made.take_step()
    assert step.gradient_norm == 0 and made.running.length
    assert all(torch.equal(old, new) for old, new in zip(before, made.parameters, strict=True))
    made.take_step()
    assert not torch.equal(before[0], made.parameters[0])


def test_a_scorer_without_a_slope_trains_by_the_score_function(trainer: MakeTrainer, toy_models: Models) -> None:
    models = replace(toy_models, scorers={"redness": SimpleNamespace(score=count_red, scale=1.0)})
    step, _ = trainer("hi", gradient="score-function", models=models).take_step()
    assert step.gradient_norm
    with pytest.raises(PahiError, match="differentiated") as caught:
        trainer("hi", models=models).take_step()
    assert 'optimisation.gradient="score-function"' in caught.value.fix


def count_red(pictures: Tensor, prompts: Sequence[str]) -> Tensor:
    """The number of red pixels."""
    return (pictures[:, 0] > pictures[:, 1:].amax(1)).sum((1, 2)).float()


def test_the_first_step_is_adam_on_eq_4(trainer: MakeTrainer, toy_models: Models) -> None:
    """The whole step once more, with nothing of the trainer's."""
    made = trainer(learning_rate=0.1, warmup_from=0.1, batch=4, micro_batch=2)
    step, _ = made.take_step()
    prompts = [PROMPTS[index] for index in choose_prompts(0, 0, 4, len(PROMPTS))]
    eps, eps_prime = draw_pairs(0, TRAINING, 0, range(4), (3, 4, 4), "fresh")
    prior = HI((3, 4, 4))
    conditioning = toy_models.encode(prompts)
    x_t = eps_prime * prior(conditioning.pooled).sigma ** 2 + prior(conditioning.pooled).mu
    s, s_prime = (toy_models.score("redness", toy_models.draw(conditioning, x), prompts) for x in (eps, x_t))
    loss = -(torch.exp(10 * s_prime) / (torch.exp(10 * s) + torch.exp(10 * s_prime))).log().mean()
    loss.backward()
    assert step.loss == pytest.approx(loss.item(), rel=1e-5)
    assert step.win_rate_percent == 100 * (s_prime > s).float().mean()
    assert prior.mu.grad is not None
    assert made.prior.mu.detach() == pytest.approx(-0.1 * prior.mu.grad.sign(), abs=1e-3)  # type: ignore[operator]


def test_an_untrained_prior_has_no_kl(trainer: MakeTrainer) -> None:
    step, stopped = trainer().take_step()
    assert (step.kl_nats, stopped) == (0, False)
    assert step.learning_rate == 1e-5
    assert step.gradient_norm is not None
    assert step.gradient_norm > 0


def test_the_kl_weight_is_in_the_loss_only(trainer: MakeTrainer) -> None:
    made = trainer(preference=replace(REDNESS, kl_weight=0.5), learning_rate=0.3, warmup_steps=0)
    made.take_step()
    step, _ = made.take_step()
    assert step.kl_nats > 0
    assert step.loss == pytest.approx(step.preference + 0.5 * step.kl_nats, rel=1e-4)


def test_several_scorers(trainer: MakeTrainer) -> None:
    """Their weights are relative, the win rate's as well."""
    red, green = (trainer(preference=Preference({name: 1.0})).take_step()[0] for name in ("redness", "greenness"))
    both, _ = trainer(preference=Preference({"redness": 6.0, "greenness": 2.0})).take_step()
    assert both.preference == pytest.approx(0.75 * red.preference + 0.25 * green.preference, rel=1e-5)
    assert both.win_rate_percent == pytest.approx(0.75 * red.win_rate_percent + 0.25 * green.win_rate_percent)


def test_the_frozen_stay_frozen(trainer: MakeTrainer, toy_models: Models) -> None:
    trainer("pahi").take_step()
    assert all(parameter.grad is None for parameter in toy_models.generator.parameters())


def test_a_rehearsal_changes_nothing(trainer: MakeTrainer) -> None:
    rehearsed, plain = trainer("pahi"), trainer("pahi")
    rehearsed.rehearse()
    assert rehearsed.take_step() == plain.take_step()


def test_a_compiled_gradient_that_is_another() -> None:
    eager = torch.linspace(-1, 1, 100)
    check_gradient(eager * 1.01, eager)
    with pytest.raises(PahiError, match="wrong by 50 %.*compile=false"):
        check_gradient(eager * 1.5, eager)
    for broken in (torch.nan, torch.inf):
        with pytest.raises(PahiError, match="compile=false"):
            check_gradient(torch.full_like(eager, broken), eager)


def test_a_gradient_of_zero_can_be_compiled() -> None:
    check_gradient(torch.zeros(9), torch.zeros(9))


@contextmanager
def drawing(models: Models, draw: Callable[..., Tensor]) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(models.generator, "draw", draw)
        yield


def test_too_little_memory_is_found_in_the_rehearsal(trainer: MakeTrainer, toy_models: Models) -> None:
    def draw(*arguments: object) -> Tensor:
        raise torch.OutOfMemoryError("CUDA out of memory")

    with drawing(toy_models, draw), pytest.raises(PahiError, match="3 prompts at once do not fit.*micro_batch"):
        trainer().rehearse()


def test_too_little_memory_later_on(trainer: MakeTrainer, toy_models: Models) -> None:
    def draw(*arguments: object) -> Tensor:
        raise torch.OutOfMemoryError("CUDA out of memory")

    made = trainer()
    with drawing(toy_models, draw), pytest.raises(PahiError, match="3 prompts at once.*micro_batch=1.*--resume"):
        made.take_step()
    assert made.step == 0


def test_on_a_cpu_memory_is_not_measured(trainer: MakeTrainer) -> None:
    made = trainer(micro_batch="auto")
    made.fit()
    assert made.micro_batch == 4


def test_on_a_gpu_as_many_as_fit(trainer: MakeTrainer, monkeypatch: pytest.MonkeyPatch) -> None:
    class Roomy:
        def available(self) -> int:
            return 10**9

        def peak(self, work: Callable[[], object]) -> int:
            work()
            return 1000 * made.micro_batch

    made = trainer(micro_batch="auto")
    monkeypatch.setattr(trainer_module, "CudaMemory", lambda device: Roomy())
    monkeypatch.setattr(made, "rehearse", lambda: None)
    monkeypatch.setattr(made, "models", SimpleNamespace(device=SimpleNamespace(type="cuda")))
    made.fit()
    assert made.micro_batch == made.settings.batch == 6


def test_a_gradient_that_is_infinite(trainer: MakeTrainer, toy_models: Models) -> None:
    def draw(conditioning: object, noise: Tensor, steps: int) -> Tensor:
        # The square root's slope at zero.
        return (noise - noise.detach()).clamp(min=0).sqrt() + 0.5

    made = trainer()
    before = made.prior.state_dict()
    with drawing(toy_models, draw), pytest.raises(PahiError, match="the gradient of step 0 is NaN or infinite"):
        made.take_step()
    assert made.step == 0
    assert all(torch.equal(before[name], tensor) for name, tensor in made.prior.state_dict().items())


@pytest.mark.parametrize("kind", GRADIENTS)
def test_bf16_is_near_float32(kind: str, trainer: MakeTrainer) -> None:
    both = [trainer("pahi", autocast=autocast, gradient=kind) for autocast in ("no", "bf16")]
    for made in both:
        made.running = Running(length=0.1, kept=0.5)
    plain, half = (made.take_step()[0] for made in both)
    assert half.loss == pytest.approx(plain.loss, rel=0.02)
    assert half.gradient_norm == pytest.approx(plain.gradient_norm, rel=0.05)


def test_fp16_leaves_out_a_step_that_overflows(trainer: MakeTrainer, toy_models: Models) -> None:
    def draw(conditioning: object, noise: Tensor, steps: int) -> Tensor:
        return noise.detach() / 9 + 0.5 + 1000 * (noise - noise.detach())

    made = trainer("pahi", autocast="fp16")
    made.scaler = torch.amp.GradScaler("cpu", init_scale=2.0**127)
    before = [parameter.clone() for parameter in made.parameters]
    with drawing(toy_models, draw):
        steps = [made.take_step()[0]]
        assert steps[0].gradient_norm is None
        assert math.isfinite(steps[0].loss)
        while steps[-1].gradient_norm is None:
            assert all(torch.equal(a, b) for a, b in zip(before, made.parameters, strict=True))
            steps.append(made.take_step()[0])
    assert not torch.equal(before[-1], made.parameters[-1])


def test_a_rehearsal_in_fp16_does_not_overflow(trainer: MakeTrainer) -> None:
    made, plain = trainer("hi", autocast="fp16"), trainer("hi")
    made.scaler = torch.amp.GradScaler("cpu", init_scale=2.0**127)
    assert torch.allclose(made.rehearse(), plain.rehearse(), rtol=0.05, atol=1e-4)
    assert made.scaler.get_scale() == 2.0**127


def test_a_rehearsal_in_fp16_finds_an_infinite_gradient(trainer: MakeTrainer, toy_models: Models) -> None:
    def draw(conditioning: object, noise: Tensor, steps: int) -> Tensor:
        return (noise - noise.detach()).clamp(min=0).sqrt() + 0.5

    with drawing(toy_models, draw), pytest.raises(PahiError, match="NaN or infinite"):
        trainer(autocast="fp16").rehearse()


def test_fp16_gives_up_when_nothing_fits(trainer: MakeTrainer, toy_models: Models) -> None:
    def draw(conditioning: object, noise: Tensor, steps: int) -> Tensor:
        return (noise - noise.detach()).clamp(min=0).sqrt() + 0.5

    made = trainer(autocast="fp16")
    made.scaler = torch.amp.GradScaler("cpu", init_scale=1.0)
    with drawing(toy_models, draw), pytest.raises(PahiError, match="no gradient fits into fp16.*bf16"):
        made.take_step()
