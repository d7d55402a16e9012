"""Pretraining of PAHI, eq. (10): near the standard Gaussian, yet keeping what the prompt says.

    KL(N(mu(c), sigma(c)), N(0, I)) + MSE(E(c), h(x_T)),   x_T a sample of the prior, h a 2-layer MLP

h is thrown away afterwards. The embedding to be reconstructed is the one that the prior's networks read: standardised
if the prior was given the means and spreads of the training prompts' features, the raw one otherwise.
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
"""Embeddings measured at once."""


def pretrain(
    prior: PAHI,
    train: Tensor,
    held_out: Tensor | None = None,
    *,
    generator: torch.Generator,
    steps: int = 2000,
    batch: int = 72,
    learning_rate: float = 1e-3,
    decoder_hidden: int = 144,
) -> dict[str, float]:
    """Minimise eq. (10) over the pooled embeddings `train` [N, P] with Adam, in place; what came of it.

    The sum over prompts is taken as its mean over a batch drawn with replacement. The paper gives no steps, no rate and
    no width of h. `generator` decides everything that is random.

    Returns train_kl_nats, train_mse, and the same with `_before`; with `held_out` [M, P] also held_out_*: means over
    prompts. An MSE of 1 on standardised embeddings means that nothing of the prompt can be read from x_T.
    Raises PahiError for embeddings that do not fit the prior, settings out of range, and a loss that is not finite.
    """
    rows = {"train": train} if held_out is None else {"train": train, "held_out": held_out}
    for pooled in rows.values():
        check_embeddings(prior, pooled)
    _check_settings(steps, batch, learning_rate, decoder_hidden)
    decoder = _draw_decoder(prior, decoder_hidden, generator).to(train.device)
    before = _measure(prior, decoder, rows, generator)
    optimizer = torch.optim.Adam([*prior.parameters(), *decoder.parameters()], lr=learning_rate)
    for step in range(steps):
        chosen = torch.randint(len(train), (batch,), generator=generator, device=generator.device)
        kl, mse = pretraining_terms(prior, decoder, train[chosen.to(train.device)], generator)
        loss = (kl + mse).mean()
        _check_loss(loss, step)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return {f"{name}_before": value for name, value in before.items()} | _measure(prior, decoder, rows, generator)


def pretraining_terms(prior: PAHI, decoder: nn.Module, pooled: Tensor, generator: torch.Generator) -> Terms:
    """The two terms of eq. (10) for embeddings [B, P]: KL [B] in nats, and squared error [B], mean over features."""
    gaussian = prior(pooled)
    shape = (len(pooled), *prior.latent_shape)
    eps = torch.randn(shape, generator=generator, device=generator.device).to(pooled.device)
    guess = decoder(sample_noise(gaussian, eps).flatten(1))
    mse = functional.mse_loss(guess, prior.read_features(pooled.float()), reduction="none").mean(1)
    return kl_divergence(gaussian), mse


@torch.no_grad()
def _measure(prior: PAHI, decoder: nn.Module, rows: dict[str, Tensor], generator: torch.Generator) -> dict[str, float]:
    report: dict[str, float] = {}
    for name, pooled in rows.items():
        parts = [pretraining_terms(prior, decoder, part, generator) for part in pooled.split(_ROWS)]
        kl, mse = (torch.cat(column).mean().item() for column in zip(*parts, strict=True))
        report |= {f"{name}_kl_nats": kl, f"{name}_mse": mse}
    return report


def _draw_decoder(prior: PAHI, hidden: int, generator: torch.Generator) -> nn.Sequential:
    """h_omega, its initial weights from `generator`; PyTorch draws them from its global state, which is put back."""
    seed = int(torch.randint(2**62, (), generator=generator, device=generator.device))
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


def _check_loss(loss: Tensor, step: int) -> None:
    if not loss.isfinite():
        what = f"the loss of pretraining is {loss.item()} at step {step}"
        raise RunError(what, fix="lower the learning rate of pretraining, or set sigma_bound = 0.5")
