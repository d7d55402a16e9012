"""How good a prior is on the validation prompts, measured in the same way at every evaluation.

Each prompt has two noises, eps and eps', which never change:

    s  [2, N]   scores of the standard Gaussian's pictures, from eps and from eps'
    s' [N]      scores of the prior's pictures, from eps'

The loss, which early stopping watches, is eq. (4) of the paper as written, so between independent noises: s from eps
against s' from eps'. The win rate is counted twice: of the same pairs as the loss, which is how we read Table 1, and of
the same noise, s from eps' against s'. Beside them stands the effect size, which a tiny gain that is the same
everywhere does not move, as it moves the second.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from pahi_rt.models.gaussians import kl_divergence, sample_noise
from pahi_rt.models.priors import Prior
from pahi_rt.scorers.statistics import wins
from pahi_rt.train.batches import VALIDATION, draw_pairs
from pahi_rt.train.frozen import Models
from pahi_rt.train.preference import check_scores, preference_loss
from pahi_rt.train.processes import Processes

PICTURES = 8
"""Prompts whose pictures are shown, the first ones."""


@dataclass(frozen=True)
class Verdict:
    """What one scorer says, a mean over the validation prompts."""

    loss: float
    """Eq. (4), with the scorer's own scale: 0.693 for the standard Gaussian if its scores did not vary."""
    independent_win_rate_percent: float
    """Against other noise of the same prompt, a tie counts half."""
    same_noise_win_rate_percent: float
    """Likewise, against the same noise."""
    effect_size: float | None
    """Mean s' - s of the same noise, in standard deviations of s between seeds; None if s does not vary."""
    mean_score: float
    """In the scorer's unit."""
    gaussian_mean_score: float
    """In the scorer's unit."""


@dataclass(frozen=True)
class Evaluation:
    """What came of one evaluation."""

    loss: float
    """Mean over scorers: what early stopping watches."""
    kl_nats: float
    """Mean over prompts."""
    scorers: dict[str, Verdict]


class Validation:
    """The validation prompts, their noise, and the scores of the standard Gaussian, which are computed once.

    Pictures are drawn without autocast: they are what is reported, and few.
    """

    def __init__(
        self, models: Models, prompts: Sequence[str], specs: Sequence[str], seed: int, batch: int, processes: Processes
    ) -> None:
        """`specs` name the scorers; `batch` pictures are drawn at once. Raises PahiError for scores not finite."""
        self.models, self.prompts, self.specs = models, prompts, specs
        self.seed, self.batch, self.processes = seed, batch, processes
        models.placement.evaluate()
        models.remember(prompts, specs)
        self.gaussian = self._measure(2, lambda pooled, eps, eps_prime: (eps, eps_prime))[0]
        """[S, 2, N]: scorers, noises, prompts."""

    @property
    def gaussian_scores(self) -> dict[str, float]:
        """Scorer -> mean score of the standard Gaussian."""
        return {spec: float(s.mean()) for spec, s in zip(self.specs, self.gaussian, strict=True)}

    def evaluate(self, prior: Prior) -> Evaluation:
        """Raises PahiError for scores that are not finite."""
        s_prime, kl = self._measure(1, lambda pooled, eps, eps_prime: (sample_noise(prior(pooled), eps_prime),), prior)
        scores = zip(self.specs, self.gaussian, s_prime, strict=True)
        verdicts = {spec: judge(s, theirs[0], self.models.scorers[spec].scale) for spec, s, theirs in scores}
        loss = sum(verdict.loss for verdict in verdicts.values()) / len(verdicts)
        return Evaluation(loss, float(kl.mean()), verdicts)

    @torch.no_grad()
    def draw_pictures(self, prior: Prior) -> Tensor:
        """[P, 2, 3, H, W] on the CPU: the standard Gaussian's and the prior's, of the first prompts, from eps'."""
        self.models.placement.evaluate()
        rows = []
        for index in range(min(PICTURES, len(self.prompts))):
            conditioning = self.models.read([self.prompts[index]])
            eps = self._noise([index])[1]
            noises = (eps, sample_noise(prior(conditioning.pooled), eps))
            rows.append(torch.cat([self.models.draw(conditioning, noise).float().cpu() for noise in noises]))
        return torch.stack(rows)

    def _noise(self, samples: Sequence[int]) -> tuple[Tensor, Tensor]:
        shape = self.models.generator.latent_shape
        eps, eps_prime = draw_pairs(self.seed, VALIDATION, 0, samples, shape, "fresh")
        return eps.to(self.models.device), eps_prime.to(self.models.device)

    @torch.no_grad()
    def _measure(
        self, columns: int, sample: Callable[[Tensor, Tensor, Tensor], Sequence[Tensor]], prior: Prior | None = None
    ) -> tuple[Tensor, Tensor]:
        """Scores [S, columns, N] of the noises that `sample(pooled, eps, eps')` makes, and the prior's KL [N].

        Every process fills in its own prompts and zeros for the rest, so that the sum over processes has them all.
        What comes back is on the CPU.
        """
        self.models.placement.evaluate()
        count, device = len(self.prompts), self.models.device
        scores, kl = torch.zeros(len(self.specs), columns, count, device=device), torch.zeros(count, device=device)
        mine = self.processes.share(count)
        for samples in (mine[start : start + self.batch] for start in range(0, len(mine), self.batch)):
            place = slice(samples.start, samples.stop)
            prompts = self.prompts[place]
            conditioning = self.models.read(prompts)
            for column, noise in enumerate(sample(conditioning.pooled, *self._noise(samples))):
                pictures = self.models.draw(conditioning, noise)
                for row, spec in enumerate(self.specs):
                    scores[row, column, place] = self.models.score(spec, pictures, prompts)
            if prior is not None:
                kl[place] = kl_divergence(prior(conditioning.pooled))
        scores = self.processes.sum(scores).cpu()
        for spec, values in zip(self.specs, scores, strict=True):
            check_scores(spec, values.flatten())
        return scores, self.processes.sum(kl).cpu()


def judge(s: Tensor, s_prime: Tensor, scale: float) -> Verdict:
    """Scores [2, N] of the standard Gaussian from eps and eps', and [N] of the prior from eps' -> the verdict."""
    spread = float(s.var(0).mean().sqrt())
    gain = float((s_prime - s[1]).mean())
    return Verdict(
        loss=float(preference_loss(s[0], s_prime, scale)),
        independent_win_rate_percent=100 * float(wins(s[0], s_prime).mean()),
        same_noise_win_rate_percent=100 * float(wins(s[1], s_prime).mean()),
        effect_size=gain / spread if spread else None,
        mean_score=float(s_prime.mean()),
        gaussian_mean_score=float(s.mean()),
    )
