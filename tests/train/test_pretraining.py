"""Eq. (10) on a toy set of embeddings."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from pahi_rt.errors import PahiError
from pahi_rt.models.gaussians import kl_divergence
from pahi_rt.models.priors import PAHI
from pahi_rt.train.pretraining import pretrain, pretraining_terms

SHAPE = (2, 6, 6)


@pytest.fixture(scope="module")
def rows() -> tuple[Tensor, Tensor]:
    """Embeddings [N, 8] of rank three, off-centre and badly scaled: for training, and held out."""
    generator = torch.Generator().manual_seed(0)
    mix = torch.randn(3, 8, generator=generator)
    pooled = torch.randn(120, 3, generator=generator) @ mix * torch.logspace(-1, 1, 8) + 3
    return pooled[:80], pooled[80:]


def make(rows: tuple[Tensor, Tensor], **options: Any) -> PAHI:
    torch.manual_seed(0)
    prior = PAHI(8, SHAPE, 16, **options)
    prior.fit_features(rows[0])
    return prior


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def run(prior: PAHI, rows: tuple[Tensor, Tensor], **settings: Any) -> dict[str, float]:
    defaults: dict[str, Any] = {"rng": seeded(), "steps": 120, "batch": 24, "learning_rate": 1e-2, "decoder_hidden": 16}
    return pretrain(prior, *rows, **defaults | settings)


def test_terms_are_those_of_the_equation(rows: tuple[Tensor, Tensor]) -> None:
    prior, pooled = make(rows), rows[0][:5]
    decoder = torch.nn.Linear(72, 8)
    kl, mse = pretraining_terms(prior, decoder, pooled, seeded(3))
    gaussian = prior(pooled)
    noise = torch.randn(5, *SHAPE, generator=seeded(3)) * gaussian.sigma**2 + gaussian.mu
    target = (pooled - rows[0].mean(0)) / prior.feature_std
    assert torch.allclose(kl, kl_divergence(gaussian))
    assert torch.allclose(mse, (decoder(noise.flatten(1)) - target).square().mean(1), rtol=1e-4)


def test_embeddings_are_moved_to_the_prior(rows: tuple[Tensor, Tensor], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "is_autocast_enabled", lambda device: False)  # which knows no device without memory
    prior, decoder = make(rows).to("meta"), torch.nn.Linear(72, 8, device="meta")
    assert {term.device.type for term in pretraining_terms(prior, decoder, rows[0][:5], seeded())} == {"meta"}


def test_loss_falls_and_the_kl_is_reported_for_both_sets(rows: tuple[Tensor, Tensor]) -> None:
    prior = make(rows)
    report = run(prior, rows)
    names = {f"{part}_{what}" for part in ("train", "held_out") for what in ("kl_nats", "mse")}
    assert report.keys() == names | {f"{name}_before" for name in names}
    loss, before = (report[f"train_kl_nats{when}"] + report[f"train_mse{when}"] for when in ("", "_before"))
    assert loss < 0.6 * before
    assert report["train_kl_nats"] < 0.6 * report["train_kl_nats_before"]
    for name, pooled in zip(("train", "held_out"), rows, strict=True):
        assert report[f"{name}_kl_nats"] == pytest.approx(kl_divergence(prior(pooled)).mean().item(), rel=1e-4)


def test_a_bounded_sigma_comes_near_the_gaussian_on_unseen_prompts_too(rows: tuple[Tensor, Tensor]) -> None:
    report = run(make(rows, sigma_bound=0.5), rows)
    assert report["train_kl_nats"] < 0.2 < report["train_kl_nats_before"]
    assert report["held_out_kl_nats"] < 0.4


def test_reconstruction_learns_to_read_the_noise(rows: tuple[Tensor, Tensor]) -> None:
    # Without noise to hide in: mu alone tells one prompt from another.
    prior = make(rows, sigma_bound=0.5)
    with torch.no_grad():
        prior.mu.get_parameter("2.weight").mul_(10)
    report = run(prior, rows, steps=30)
    assert report["train_mse"] < 0.95 < report["train_mse_before"]  # 1 is what knowing nothing costs


def test_zero_init_stays_at_the_gaussian_before_the_first_step(rows: tuple[Tensor, Tensor]) -> None:
    report = run(make(rows, init="zero"), rows, steps=1)
    assert report["train_kl_nats_before"] == report["held_out_kl_nats_before"] == 0
    assert report["train_mse_before"] == pytest.approx(
        1, abs=0.4
    )  # the reconstruction alone, of standardised features by chance


def test_held_out_rows_are_optional(rows: tuple[Tensor, Tensor]) -> None:
    report = pretrain(make(rows), rows[0], rng=seeded(), steps=1)
    assert set(report) == {"train_kl_nats", "train_mse", "train_kl_nats_before", "train_mse_before"}


def test_the_generator_decides_everything(rows: tuple[Tensor, Tensor]) -> None:
    first, second, third = (make(rows) for _ in range(3))
    state = torch.get_rng_state()
    reports = [run(first, rows, steps=3), run(second, rows, steps=3)]
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(99)
    run(third, rows, steps=3, rng=seeded(1))
    assert reports[0] == reports[1]
    weights = [prior.mu.get_parameter("0.weight") for prior in (first, second, third)]
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"steps": 0}, "steps = 0"),
        ({"batch": 0}, "batch = 0"),
        ({"decoder_hidden": -1}, "decoder_hidden = -1"),
        ({"learning_rate": 0.0}, "learning rate 0.0"),
        ({"learning_rate": 1e30}, "the loss of pretraining is"),
    ],
)
def test_refuses_settings_out_of_range(rows: tuple[Tensor, Tensor], settings: dict[str, Any], message: str) -> None:
    with pytest.raises(PahiError, match=message) as caught:
        run(make(rows), rows, **settings)
    assert caught.value.fix


def test_refuses_embeddings_that_do_not_fit(rows: tuple[Tensor, Tensor]) -> None:
    train, held_out = rows
    for bad in ((train[:, :5], held_out), (train, held_out[:, :5]), (train[:0], held_out), (train / 0, held_out)):
        with pytest.raises(PahiError, match="do not fit|NaN or infinity"):
            run(make(rows), bad)
