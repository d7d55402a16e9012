"""Pretrains PAHI by eq. (10): near the standard Gaussian, while x_T still tells which prompt it belongs to.

    KL(N(mu(c), sigma(c)), N(0, I)) + MSE(E(c), h(x_T)),   x_T a sample of the prior, h a 2-layer MLP

h is discarded afterwards. The embedding E(c) to be reconstructed is the one that the prior's networks read:
standardised after `PAHI.fit_features`, raw otherwise.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from pahi_rt.errors import RecipeError, RunError
from pahi_rt.models.gaussians import kl_divergence, sample_noise
from pahi_rt.models.priors import PAHI, check_embeddings, two_layers

Terms = tuple[Tensor, Tensor]
_ROWS = 256
"""Embeddings that are measured at once."""


def pretrain(
    prior: PAHI,
    train: Tensor,
    held_out: Tensor | None = None,
    *,
    rng: torch.Generator,
    steps: int = 2000,
    batch: int = 72,
    learning_rate: float = 1e-3,
    decoder_hidden: int = 144,
) -> dict[str, float]:
    """Minimise eq. (10) over the pooled embeddings `train` [N, P] with Adam, in place, and report the result.

    Embeddings may be on another device than the prior: only those of a batch are moved.

    The sum over prompts becomes a mean over a batch that is drawn with replacement. The paper gives neither the number
    of steps, nor the learning rate, nor the width of h. All random numbers come from `rng`.

    Returns train_kl_nats and train_mse, means over prompts, and the same with `_before`; with `held_out` [M, P] also
    held_out_*. An MSE of 1 on standardised embeddings means that x_T says nothing about the prompt.
    Raises ModelError for embeddings that do not fit the prior, RecipeError for settings out of range, and RunError for
    a loss that is not finite.
    """
    rows = {"train": train} if held_out is None else {"train": train, "held_out": held_out}
    for pooled in rows.values():
        check_embeddings(prior, pooled)
    _check_settings(steps, batch, learning_rate, decoder_hidden)
    decoder = _init_decoder(prior, decoder_hidden, rng).to(prior.feature_mean.device)
    before = _measure(prior, decoder, rows, rng)
    optimizer = torch.optim.Adam([*prior.parameters(), *decoder.parameters()], lr=learning_rate)
    for step in range(steps):
        chosen = torch.randint(len(train), (batch,), generator=rng, device=rng.device)
        kl, mse = pretraining_terms(prior, decoder, train[chosen.to(train.device)], rng)
        loss = (kl + mse).mean()
        if not loss.isfinite():
            what = f"the loss of pretraining is {loss.item()} at step {step}"
            raise RunError(what, fix="lower the learning rate of pretraining, or set sigma_bound = 0.5")
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return {f"{name}_before": value for name, value in before.items()} | _measure(prior, decoder, rows, rng)


def pretraining_terms(prior: PAHI, decoder: nn.Module, pooled: Tensor, rng: torch.Generator) -> Terms:
    """The two terms of eq. (10) for embeddings [B, P]: KL [B] in nats, and squared error [B], a mean over features."""
    pooled = pooled.to(prior.feature_mean.device)
    gaussian = prior(pooled)
    shape = (len(pooled), *prior.latent_shape)
    eps = torch.randn(shape, generator=rng, device=rng.device).to(pooled.device)
    guess = decoder(sample_noise(gaussian, eps).flatten(1))
    mse = functional.mse_loss(guess, prior.read_features(pooled.float()), reduction="none").mean(1)
    return kl_divergence(gaussian), mse


@torch.no_grad()
def _measure(prior: PAHI, decoder: nn.Module, rows: dict[str, Tensor], rng: torch.Generator) -> dict[str, float]:
    report: dict[str, float] = {}
    for name, pooled in rows.items():
        parts = [pretraining_terms(prior, decoder, part, rng) for part in pooled.split(_ROWS)]
        kl, mse = (torch.cat(column).mean().item() for column in zip(*parts, strict=True))
        report |= {f"{name}_kl_nats": kl, f"{name}_mse": mse}
    return report


def _init_decoder(prior: PAHI, hidden: int, rng: torch.Generator) -> nn.Sequential:
    """h_omega with initial weights from `rng`. PyTorch draws them from its global RNG, whose state is restored."""
    seed = int(torch.randint(2**62, (), generator=rng, device=rng.device))
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        return two_layers(math.prod(prior.latent_shape), hidden, len(prior.feature_mean))


def _check_settings(steps: int, batch: int, learning_rate: float, decoder_hidden: int) -> None:
    counts = {"steps": steps, "batch": batch, "decoder_hidden": decoder_hidden}
    for name, count in counts.items():
        if count < 1:
            raise RecipeError(f"pretraining with {name} = {count} is not possible", fix="use at least 1")
    if not 0 < learning_rate < math.inf:
        raise RecipeError(f"pretraining at learning rate {learning_rate} is not possible", fix="use a positive number")
