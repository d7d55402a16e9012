"""Adam on the preference loss, eq. (4): one step at a time, in micro-batches, over any number of processes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch._dynamo.exc import TorchDynamoException
from torch._inductor.exc import InductorError

from pahi_rt.errors import PahiError, RunError
from pahi_rt.models.gaussians import Gaussian
from pahi_rt.models.priors import Prior
from pahi_rt.scorers.statistics import wins
from pahi_rt.train.batches import TRAINING, choose_prompts, draw_pairs
from pahi_rt.train.frozen import Models
from pahi_rt.train.gradients import GRADIENTS, Estimate, Judged, Running, follow
from pahi_rt.train.memory import USUAL, CudaMemory, choose_micro_batch, fitting
from pahi_rt.train.preference import Loss, Preference, Scores, objective, sample_losses
from pahi_rt.train.processes import Processes
from pahi_rt.train.recipe import Optimisation

AUTOCAST = {"no": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
SMALLEST_SCALE = 1.0
"""Smallest factor on the loss in fp16. If gradients overflow even below it, they are broken, not just large."""

COMPILE_TOLERANCE = 0.1
"""Largest relative error of a compiled gradient: bf16 has 8 bits of precision, and fused kernels round less often."""


@dataclass(frozen=True)
class Step:
    """Measurements of one step, means over the whole batch."""

    loss: float
    preference: float
    """Eq. (4) alone; 0.693 for a prior that is not better than the Gaussian."""
    kl_nats: float
    win_rate_percent: float
    """Wins under the training scorers, weighted as in the loss. A tie counts half."""
    gradient_norm: float | None
    """None for a step that was skipped because a gradient overflowed in fp16."""
    learning_rate: float


class Trainer:
    """A prior, its optimizer, and the number of steps taken."""

    def __init__(
        self,
        prior: Prior,
        models: Models,
        prompts: Sequence[str],
        preference: Preference,
        settings: Optimisation,
        processes: Processes,
    ) -> None:
        """`prior` is on `models.device`. Raises RunError if a step has fewer samples than there are processes."""
        if settings.batch < processes.world:
            what = f"a batch of {settings.batch} cannot be shared by {processes.world} processes"
            raise RunError(what, fix=f"--set optimisation.batch={processes.world}, or start fewer processes")
        self.prior, self.models, self.prompts = prior, models, prompts
        self.preference, self.settings, self.processes = preference, settings, processes
        self.parameters = list(prior.parameters())
        self.optimizer = torch.optim.Adam(self.parameters, lr=settings.learning_rate)
        self.micro_batch = USUAL if settings.micro_batch == "auto" else settings.micro_batch
        self.scaler = torch.amp.GradScaler(models.device.type, enabled=settings.autocast == "fp16")
        self.step = 0
        self.running = Running()

    def take_step(self, stop: bool = False) -> tuple[Step, bool]:
        """Update the prior once. Returns the measurements, and whether any process was asked to `stop`.

        Raises PahiError if scores, loss or gradient are not finite; the prior is then unchanged.
        """
        rate = learning_rate(self.settings, self.step)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        measured, lengths, stopped = self._accumulate(stop)
        loss, preference, kl, win_rate = measured.tolist()
        norm = self._update()
        self.step += 1
        self.running = follow(self.running, lengths, preference)
        return Step(loss, preference, kl, 100 * win_rate, norm, rate), stopped

    def fit(self) -> None:
        """Set the micro-batch to what fits into a GPU's memory, the same in all processes; on a CPU it stays `USUAL`.

        Raises PahiError as `rehearse` does.
        """

        def rehearse_with(micro_batch: int) -> None:
            self.micro_batch = micro_batch
            self.rehearse()

        device = self.models.device
        if device.type == "cuda":
            share = len(self.processes.share(self.settings.batch))
            self.micro_batch = choose_micro_batch(rehearse_with, share, CudaMemory(device))
        self.micro_batch = self.processes.least(self.micro_batch)

    def rehearse(self) -> Tensor:
        """Compute the gradient of one micro-batch, as one vector, to find problems early. Does not change the prior.

        The loss is not scaled: in fp16 the first scale is often too large, which costs a training only a few steps.
        Raises PahiError for scores or gradients that are not finite, for too little memory, and if compiling fails.
        """
        self._clear_gradients()
        unscaled = torch.amp.GradScaler(self.models.device.type, enabled=False)
        unclipped = replace(self.running, length=math.inf)
        try:
            self._add_gradients(range(min(self.micro_batch, self.settings.batch)), unscaled, unclipped)
        except (TorchDynamoException, InductorError) as error:
            what = f"torch.compile cannot translate the generator: {error}".partition("\n")[0]
            raise RunError(what, fix="--set optimisation.compile=false") from error
        self._gradient_norm(unscaled)
        return torch.cat([gradient.flatten() for gradient in self._gradients()])

    def _clear_gradients(self) -> None:
        for parameter in self.parameters:
            parameter.grad = torch.zeros_like(parameter)

    def _gradients(self) -> list[Tensor]:
        return [parameter.grad for parameter in self.parameters if parameter.grad is not None]

    def _accumulate(self, stop: bool) -> tuple[Tensor, Tensor, bool]:
        """Put the batch's gradient into the parameters. Returns what `_add_gradients` returns, and `stop`, summed over
        all processes."""
        self._clear_gradients()
        problem, batch = None, self.settings.batch
        try:
            measured, lengths = self._add_gradients(self.processes.share(batch), self.scaler, self.running)
        except PahiError as error:
            measured, problem = torch.full((4,), torch.nan, device=self.models.device), error
            lengths = measured.new_zeros(batch)
        # One flat vector, so that a step needs one sum over processes; `split` cuts the sum at the same places:
        #     gradient of the first parameter | ... | of the last | 4 measured numbers | 1 if asked to stop, else 0
        #     | lengths of all samples, of which each process fills in its own
        # A process with a problem still takes part, with NaN for its measurements: the others would wait for ever.
        gradients = self._gradients()
        asked = measured.new_tensor([float(stop)])
        total = self.processes.sum(torch.cat([*(g.flatten() for g in gradients), measured, asked, lengths]))
        *parts, measured, stopped, lengths = total.split([*(g.numel() for g in gradients), 4, 1, batch])
        if problem:
            raise problem
        if not measured.isfinite().all():
            fix = "train a new run with a lower optimisation.learning_rate"
            raise RunError(f"the loss of step {self.step} is NaN or infinite, here or in another process", fix=fix)
        for gradient, part in zip(gradients, parts, strict=True):
            gradient.copy_(part.view_as(gradient))
        return measured, lengths, bool(stopped)

    def _add_gradients(
        self, samples: Sequence[int], scaler: torch.amp.GradScaler, running: Running
    ) -> tuple[Tensor, Tensor]:
        """Add the gradients of these samples to the parameters.

        Returns their share of the batch's loss, preference, KL and win rate [4], and `Estimate.lengths` [batch], 0 for
        all other samples.
        """
        settings, parts = self.settings, []
        lengths = torch.zeros(settings.batch, device=self.models.device)
        chosen = choose_prompts(settings.seed, self.step, settings.batch, len(self.prompts))
        prompts = {sample: self.prompts[chosen[sample]] for sample in samples}
        self.models.placement.train()
        self.models.remember(list(prompts.values()), self.preference.weights)
        for start in range(0, len(samples), self.micro_batch):
            micro = samples[start : start + self.micro_batch]
            with fitting(len(micro), self.models.device):
                gaussian, estimate = self._estimate(micro, [prompts[sample] for sample in micro], running, scaler)
                loss = objective(estimate.losses, gaussian, self.preference)
                weight = len(micro) / settings.batch
                scaler.scale(carry(estimate, gaussian, loss) * weight).backward()
            lengths[list(micro)] = estimate.lengths
            measured = torch.stack([loss.total.detach(), loss.preference, loss.kl, estimate.wins.mean()])
            parts.append(weight * measured)
        return torch.stack(parts).sum(0), lengths

    def _estimate(
        self, samples: Sequence[int], prompts: Sequence[str], running: Running, scaler: torch.amp.GradScaler
    ) -> tuple[Gaussian, Estimate]:
        """Draw the pictures of every prompt and score them. Returns the prior's Gaussians, and the gradient at them."""
        settings, models, weights = self.settings, self.models, self.preference.weights
        shape, device = models.generator.latent_shape, models.device
        pair = draw_pairs(settings.seed, TRAINING, self.step, samples, shape, self.preference.noise)
        eps, eps_prime = (noise.to(device) for noise in pair)
        conditioning = models.encode(prompts)

        def score(noise: Tensor) -> dict[str, Tensor]:
            with torch.autocast(device.type, AUTOCAST[settings.autocast], enabled=settings.autocast != "no"):
                pictures = models.draw(conditioning, noise)
                return {spec: models.score(spec, pictures, prompts) for spec in weights}

        with torch.no_grad():
            s = score(eps)

        def judge(noise: Tensor) -> Judged:
            s_prime = score(noise)
            scores = {spec: Scores(s[spec], s_prime[spec], models.scorers[spec].scale) for spec in weights}
            losses, pull = sample_losses(scores, self.preference)
            won = sum(weight * wins(s[spec], s_prime[spec].detach()) for spec, weight in weights.items())
            return Judged(losses, pull, torch.as_tensor(won) / sum(weights.values()))

        gaussian = self.prior(conditioning.pooled)
        frozen = Gaussian(gaussian.mu.detach(), gaussian.sigma.detach())
        factor = float(scaler.get_scale())
        return gaussian, GRADIENTS[settings.gradient](judge, frozen, eps_prime, running, factor)

    def _update(self) -> float | None:
        """Take one step of Adam. Returns the norm of the gradient, None if the step was skipped."""
        self.scaler.unscale_(self.optimizer)
        norm = self._gradient_norm(self.scaler)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        if self.scaler.is_enabled() and self.scaler.get_scale() < SMALLEST_SCALE:
            fix = 'train a new run with --set optimisation.autocast="bf16"'
            raise RunError(f"at step {self.step} no gradient fits into fp16", fix=fix)
        return norm

    def _gradient_norm(self, scaler: torch.amp.GradScaler) -> float | None:
        """The gradient's norm. If it is not finite: None in fp16, where the scaler skips the step, else a RunError."""
        norm = float(torch.stack([gradient.norm() for gradient in self._gradients()]).norm())
        if math.isfinite(norm):
            return norm
        if scaler.is_enabled():
            return None
        fix = "train a new run with a lower optimisation.learning_rate, or with prior.sigma_bound=0.5"
        raise RunError(f"the gradient of step {self.step} is NaN or infinite", fix=fix)


def carry(estimate: Estimate, gaussian: Gaussian, loss: Loss) -> Tensor:
    """A number whose gradient with respect to the prior is that of the loss: the estimated one, and that of the KL."""
    along = (estimate.mean * gaussian.mu + estimate.std * gaussian.std).flatten(1).sum(1)
    return along.mean() + loss.total - loss.preference


def check_gradient(compiled: Tensor, eager: Tensor) -> None:
    """Raises RunError if torch.compile's gradient of the same sample differs by more than rounding in bf16.

    It can be wrong without an error: on a CPU, PyTorch 2.13's backward pass of a UNet in channels-last layout was wrong
    by half.
    """
    error, norm = (compiled - eager).norm(), eager.norm()
    # `not <=` and not `>`: NaN has to fail too.
    if not error <= COMPILE_TOLERANCE * norm:
        what = f"on this machine torch.compile computes a gradient that is wrong by {float(100 * error / norm):.0f} %"
        raise RunError(what, fix="--set optimisation.compile=false")


def learning_rate(settings: Optimisation, step: int) -> float:
    """The rate at `step`: rises linearly from `warmup_from` over `warmup_steps`, then stays at `learning_rate`."""
    risen = min(1.0, step / settings.warmup_steps) if settings.warmup_steps else 1.0
    return settings.warmup_from + risen * (settings.learning_rate - settings.warmup_from)
