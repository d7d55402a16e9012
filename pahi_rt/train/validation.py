"""Evaluates a prior on the validation prompts, with the same noise at every evaluation.

Each prompt has two fixed noises, eps and eps':

    s  [2, N]   scores of the standard Gaussian's pictures, from eps and from eps'
    s' [N]      scores of the prior's pictures, from eps'

The loss, which early stopping watches, is the paper's eq. (4) as written, between independent noises: s from eps
against s' from eps'. There are two win rates: over the same pairs as the loss, which is how we read Table 1, and over
pairs of the same noise, s from eps' against s'. A tiny gain that is the same everywhere moves the second win rate, but
not the effect size, which is why both are reported.
"""

from __future__ import annotations

from collections.abc import Sequence
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
"""How many prompts, the first ones, have their pictures saved."""


@dataclass(frozen=True)
class Verdict:
    """The result under one scorer, means over the validation prompts."""

    loss: float
    """Eq. (4) with the scorer's own scale; it would be 0.693 for the standard Gaussian if its scores did not vary."""
    independent_win_rate_percent: float
    """Wins over the Gaussian's picture of the same prompt from the other noise. A tie counts half."""
    same_noise_win_rate_percent: float
    """Wins over the Gaussian's picture of the same prompt from the same noise. A tie counts half."""
    effect_size: float | None
    """Mean s' - s of the same noise, in standard deviations of s between seeds; None if s does not vary."""
    mean_score: float
    """Mean s', in the scorer's unit."""
    gaussian_mean_score: float
    """Mean s, in the scorer's unit."""


@dataclass(frozen=True)
class Evaluation:
    """The result of one evaluation."""

    loss: float
    """Mean over scorers, which early stopping watches."""
    kl_nats: float
    """KL to the standard Gaussian, mean over prompts."""
    scorers: dict[str, Verdict]


class Validation:
    """The validation prompts, their noise, and the scores of the standard Gaussian, which are computed once.

    Pictures are drawn without autocast: they decide what is reported, and there are few.
    """

    def __init__(
        self, models: Models, prompts: Sequence[str], specs: Sequence[str], seed: int, batch: int, processes: Processes
    ) -> None:
        """`specs` name the scorers; `batch` pictures are drawn at once. Raises ScorerError for scores that are not
        finite."""
        self.models, self.prompts, self.specs = models, prompts, specs
        self.seed, self.batch, self.processes = seed, batch, processes
        models.placement.evaluate()
        models.remember(prompts, specs)
        self.gaussian = self._measure(None)[0]
        """Scores of the standard Gaussian's pictures [S, 2, N]: S scorers, the noises eps and eps', N prompts."""

    @property
    def gaussian_scores(self) -> dict[str, float]:
        """Scorer -> mean score of the standard Gaussian."""
        return {spec: float(s.mean()) for spec, s in zip(self.specs, self.gaussian, strict=True)}

    def evaluate(self, prior: Prior) -> Evaluation:
        """Evaluate `prior`. Raises ScorerError for scores that are not finite."""
        s_prime, kl = self._measure(prior)
        scores = zip(self.specs, self.gaussian, s_prime, strict=True)
        verdicts = {spec: judge(s, theirs[0], self.models.scorers[spec].scale) for spec, s, theirs in scores}
        loss = sum(verdict.loss for verdict in verdicts.values()) / len(verdicts)
        return Evaluation(loss, float(kl.mean()), verdicts)

    @torch.no_grad()
    def draw_pictures(self, prior: Prior) -> Tensor:
        """Pictures [P, 2, 3, H, W] of the first P prompts from eps', on the CPU: the Gaussian's, then the prior's."""
        self.models.placement.evaluate()
        rows = []
        for index in range(min(PICTURES, len(self.prompts))):
            conditioning = self.models.encode([self.prompts[index]])
            eps = self._noise([index])[1]
            noises = (eps, sample_noise(prior(conditioning.pooled), eps))
            rows.append(torch.cat([self.models.draw(conditioning, noise).float().cpu() for noise in noises]))
        return torch.stack(rows)

    def _noise(self, samples: Sequence[int]) -> tuple[Tensor, Tensor]:
        shape = self.models.generator.latent_shape
        eps, eps_prime = draw_pairs(self.seed, VALIDATION, 0, samples, shape, "fresh")
        return eps.to(self.models.device), eps_prime.to(self.models.device)

    @torch.no_grad()
    def _measure(self, prior: Prior | None) -> tuple[Tensor, Tensor]:
        """Scores [S, K, N] and KL in nats [N] over all prompts, on the CPU.

        With a prior K = 1: its pictures from eps'. With None K = 2: the standard Gaussian's pictures from eps and from
        eps', at a KL of 0.
        """
        self.models.placement.evaluate()
        count, device = len(self.prompts), self.models.device
        # Every process fills in its own prompts and leaves 0 for the rest, so that the sum over processes has them all.
        scores = torch.zeros(len(self.specs), 2 if prior is None else 1, count, device=device)
        kl = torch.zeros(count, device=device)
        mine = self.processes.share(count)
        for samples in (mine[start : start + self.batch] for start in range(0, len(mine), self.batch)):
            place = slice(samples.start, samples.stop)
            prompts = self.prompts[place]
            conditioning = self.models.encode(prompts)
            eps, eps_prime = self._noise(samples)
            noises = [eps, eps_prime]
            if prior is not None:
                gaussian = prior(conditioning.pooled)
                noises = [sample_noise(gaussian, eps_prime)]
                kl[place] = kl_divergence(gaussian)
            for column, noise in enumerate(noises):
                pictures = self.models.draw(conditioning, noise)
                for row, spec in enumerate(self.specs):
                    scores[row, column, place] = self.models.score(spec, pictures, prompts)
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
