"""HI and PAHI: where they start, what they compute, how they export, and what their checkpoints survive."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from pahi_rt.errors import ModelError, OutputError, PahiError
from pahi_rt.models.gaussians import cosine_basis, kl_divergence, sample_noise
from pahi_rt.models.priors import HI, METADATA, PAHI, Prior, check_fit, load_prior, save_prior

SHAPE = (4, 8, 6)
WIDTH = 10
OPTIONS: list[dict[str, Any]] = [
    {},
    {"sigma_bound": 0.5},
    {"low_frequency": 3},
    {"sigma_bound": 0.25, "low_frequency": 2},
]


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def pahi(**options: Any) -> PAHI:
    torch.manual_seed(0)
    return PAHI(WIDTH, SHAPE, 12, **options)


def all_priors() -> list[Prior]:
    learned = HI(SHAPE, low_frequency=2)
    nn.init.normal_(learned.mu, std=0.1)
    return [
        learned,
        *(HI(SHAPE, **o) for o in OPTIONS),
        *(pahi(**o, init=i) for o in OPTIONS for i in ("pretrain", "zero")),
    ]


# Parametrisations and priors


@pytest.mark.parametrize("options", OPTIONS)
@pytest.mark.parametrize("kind", ["hi", "pahi"])
def test_starts_at_exactly_the_standard_gaussian(kind: str, options: dict[str, Any]) -> None:
    prior = HI(SHAPE, **options) if kind == "hi" else pahi(init="zero", **options)
    gaussian, eps = prior(1e3 * draw(5, WIDTH)), draw(5, *SHAPE)
    assert gaussian.mu.shape == gaussian.sigma.shape == (5, *SHAPE)
    assert torch.equal(sample_noise(gaussian, eps), eps)
    assert torch.equal(sample_noise(gaussian, eps, torch.full((5,), 0.7)), eps)
    assert torch.equal(kl_divergence(gaussian), torch.zeros(5))


@pytest.mark.parametrize("options", OPTIONS)
@pytest.mark.parametrize("kind", ["hi", "pahi"])
def test_a_step_down_the_gradient_moves_mu_and_sigma(kind: str, options: dict[str, Any]) -> None:
    prior = HI(SHAPE, **options) if kind == "hi" else pahi(init="zero", **options)
    pooled, eps, target = draw(4, WIDTH), draw(4, *SHAPE), draw(4, *SHAPE, seed=3)
    optimizer = torch.optim.Adam(prior.parameters(), 1e-2)
    losses = []
    for _ in range(5):
        loss = (sample_noise(prior(pooled), eps) - target).square().mean()
        losses.append(loss.item())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert losses == sorted(losses, reverse=True)
    gaussian = prior(pooled)
    assert (gaussian.mu != 0).float().mean() > 0.9
    assert (gaussian.sigma != 1).float().mean() > 0.9


def test_pahi_of_sd_turbo_has_the_papers_five_million_parameters() -> None:
    with torch.device("meta"):
        prior = PAHI(1024, (4, 64, 64))
    assert sum(p.numel() for p in prior.parameters()) == 2 * (1025 * 144 + 145 * 16384) == 5_046_560


def test_hi_has_one_mu_and_one_sigma_for_all_prompts() -> None:
    prior = HI(SHAPE)
    nn.init.normal_(prior.mu)
    assert sum(p.numel() for p in prior.parameters()) == 2 * math.prod(SHAPE)
    gaussian = prior(draw(3, WIDTH))
    assert torch.equal(gaussian.mu, prior.mu.reshape(1, *SHAPE).expand(3, -1, -1, -1))
    assert torch.equal(gaussian.sigma, prior.sigma.reshape(1, *SHAPE).expand(3, -1, -1, -1))


def test_pahi_is_two_mlps_on_the_embedding() -> None:
    prior, pooled = pahi(), draw(3, WIDTH)
    first, _, last = prior.mu
    assert isinstance(first, nn.Linear) and isinstance(last, nn.Linear)
    hidden = nn.functional.silu(pooled @ first.weight.T + first.bias)
    gaussian = prior(pooled)
    assert torch.allclose(gaussian.mu, (hidden @ last.weight.T + last.bias).reshape(3, *SHAPE), atol=1e-6)
    assert (gaussian.mu[0] - gaussian.mu[1]).abs().mean() > 0.01
    assert not torch.allclose(gaussian.mu, gaussian.sigma)
    assert torch.allclose(prior(pooled[1:2]).mu, gaussian.mu[1:2], atol=1e-6)  # no prompt sees another


def test_sigma_keeps_its_bound() -> None:
    sigma = pahi(sigma_bound=0.5)(1e6 * draw(3, WIDTH)).sigma
    assert 0.5 <= sigma.min() < 0.6
    assert 1.4 < sigma.max() <= 1.5


def test_low_frequencies_are_those_of_the_cosine_transform() -> None:
    prior = HI(SHAPE, low_frequency=3)
    assert prior.mu.numel() == prior.sigma.numel() == SHAPE[0] * 9
    nn.init.normal_(prior.mu)
    rows, columns = cosine_basis(SHAPE[1], SHAPE[1]), cosine_basis(SHAPE[2], SHAPE[2])
    spectrum = rows.T @ prior(draw(1, WIDTH)).mu[0] @ columns / (SHAPE[1] * SHAPE[2])
    assert torch.allclose(spectrum[:, :3, :3], prior.mu.reshape(-1, 3, 3), atol=1e-5)
    assert spectrum[:, 3:].abs().max() < 1e-5
    assert spectrum[:, :, 3:].abs().max() < 1e-5


def test_features_are_standardised_by_the_training_prompts() -> None:
    prior, pooled = pahi(), draw(200, WIDTH) * torch.logspace(-3, 3, WIDTH) + 5
    assert torch.equal(prior.read_features(pooled), pooled)
    prior.fit_features(pooled)
    features = prior.read_features(pooled)
    assert features.mean(0).abs().max() < 0.1
    assert torch.allclose(features[:, -2:].std(0), torch.ones(2), atol=0.02)
    assert features[:, 0].std() < 0.01  # what hardly moves on these prompts is not blown up
    assert "feature_mean" in prior.state_dict()


@pytest.mark.parametrize(
    ("pooled", "message"),
    [
        (draw(5, WIDTH + 1), "do not fit"),
        (draw(0, WIDTH), "do not fit"),
        (draw(WIDTH), "do not fit"),
        (draw(5, WIDTH) / 0, "NaN or infinity"),
        (draw(1, WIDTH).repeat(4, 1), "same embedding"),
    ],
)
def test_refuses_embeddings_that_cannot_be_standardised(pooled: Tensor, message: str) -> None:
    prior = pahi()
    with pytest.raises(PahiError, match=message):
        prior.fit_features(pooled)
    assert torch.equal(prior.feature_std, torch.ones(WIDTH))


@pytest.mark.parametrize("prior", [HI(SHAPE, low_frequency=3), pahi(), pahi(low_frequency=3)])
def test_stays_in_float32_inside_autocast(prior: Prior) -> None:
    pooled = draw(2, WIDTH).bfloat16()
    expected = prior(pooled.float())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        gaussian = prior(pooled)
    assert torch.equal(gaussian.mu, expected.mu)
    assert torch.equal(gaussian.sigma, expected.sigma)
    assert gaussian.sigma.dtype == torch.float32


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"hidden": 0}, "0 hidden units"),
        ({"pooled_width": 0}, "0 features"),
        ({"latent_shape": (4, 8)}, "no noise has the shape"),
        ({"latent_shape": (4, 0, 8)}, "no noise has the shape"),
        ({"init": "random"}, "no way to start a prior"),
        ({"sigma_bound": 0.0}, "sigma_bound of 0.0"),
        ({"sigma_bound": 1.0}, "sigma_bound of 1.0"),
        ({"sigma_bound": math.nan}, "sigma_bound of nan"),
        ({"low_frequency": 0}, "low_frequency = 0"),
        ({"low_frequency": 7}, "low_frequency = 7 does not fit latents of 6"),
    ],
)
def test_refuses_settings_out_of_range(options: dict[str, Any], message: str) -> None:
    usual: dict[str, Any] = {"pooled_width": WIDTH, "latent_shape": SHAPE}
    with pytest.raises(PahiError, match=message) as caught:
        PAHI(**usual | options)
    assert caught.value.fix


# Export


class Noise(nn.Module):
    """The part of the fused graph that is a prior."""

    def __init__(self, prior: Prior) -> None:
        super().__init__()
        self.prior = prior

    def forward(self, pooled: Tensor, noise: Tensor, prior_strength: Tensor) -> Tensor:
        return sample_noise(self.prior(pooled), noise, prior_strength)


EXPORTED = [HI(SHAPE, low_frequency=3), pahi(), pahi(sigma_bound=0.5, low_frequency=3)]


@pytest.mark.parametrize("prior", EXPORTED)
def test_traces_with_a_dynamic_batch(prior: Prior) -> None:
    batch = {0: torch.export.Dim("batch")}
    inputs = draw(2, WIDTH), draw(2, *SHAPE), torch.ones(2)
    program = torch.export.export(Noise(prior), inputs, dynamic_shapes=(batch, batch, batch))
    # No sub-graphs, thus no control flow; and no other batch than the traced one is baked in.
    assert not [node for node in program.graph.nodes if node.op == "get_attr"]
    others = draw(5, WIDTH), draw(5, *SHAPE), torch.linspace(0, 1, 5)
    assert torch.allclose(program.module()(*others), Noise(prior)(*others), atol=1e-6)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # the exporter warns about its own internals
@pytest.mark.parametrize("prior", EXPORTED)
def test_onnx_runtime_agrees(prior: Prior, tmp_path: Path) -> None:
    import onnxruntime

    def inputs(batch: int) -> dict[str, Tensor]:
        strengths = torch.linspace(0, 1, batch)
        return {"pooled": draw(batch, WIDTH), "noise": draw(batch, *SHAPE), "prior_strength": strengths}

    example, others = inputs(2), inputs(5)
    batch = {0: torch.export.Dim("batch")}
    program = torch.onnx.export(
        Noise(prior).eval(),
        kwargs=example,
        input_names=list(example),
        dynamic_shapes=dict.fromkeys(example, batch),
        dynamo=True,
        verbose=False,
    )
    assert program is not None
    program.save(tmp_path / "prior.onnx")
    assert not {node.op_type for node in program.model.graph} & {"If", "Loop", "Scan", "Cast"}
    session = onnxruntime.InferenceSession(tmp_path / "prior.onnx")
    (noise,) = session.run(None, {name: tensor.numpy() for name, tensor in others.items()})
    np.testing.assert_allclose(noise, Noise(prior)(**others).detach().numpy(), atol=1e-5)


# Checkpoints


@pytest.mark.parametrize("prior", all_priors())
def test_round_trip_is_bit_equal(prior: Prior, tmp_path: Path) -> None:
    path = tmp_path / "prior.safetensors"
    if isinstance(prior, PAHI):
        prior.fit_features(draw(20, WIDTH, seed=4) * 7 + 3)
    save_prior(prior, path)
    state = torch.get_rng_state()
    loaded = load_prior(path)
    assert torch.equal(torch.get_rng_state(), state)
    assert type(loaded) is type(prior)
    assert loaded.config == prior.config
    assert all(torch.equal(value, loaded.state_dict()[name]) for name, value in prior.state_dict().items())
    pooled = draw(3, WIDTH)
    assert torch.equal(loaded(pooled).mu, prior(pooled).mu)
    assert torch.equal(loaded(pooled).sigma, prior(pooled).sigma)
    assert all(parameter.requires_grad for parameter in loaded.parameters())
    save_prior(loaded, tmp_path / "again.safetensors")
    assert (tmp_path / "again.safetensors").read_bytes() == path.read_bytes()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["again.safetensors", "prior.safetensors"]


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    path = tmp_path / "prior.safetensors"
    save_prior(pahi(), path)
    return path


def rewrite(path: Path, settings: object = None, **tensors: Tensor | None) -> None:
    """Change settings (a dict is merged, a string replaces them) and tensors (None drops one) of a checkpoint."""
    config = pahi().config
    text = settings if isinstance(settings, str) else json.dumps(config | (settings or {}))  # type: ignore[operator]
    state = load_file(path) | {name.replace("__", "."): value for name, value in tensors.items()}
    save_file({name: value for name, value in state.items() if value is not None}, path, metadata={METADATA: text})


DAMAGES: dict[str, tuple[Any, str]] = {
    "missing": (lambda p: p.unlink(), "no prior at"),
    "a folder": (lambda p: (p.unlink(), p.mkdir()), "holds no prior.safetensors"),
    "empty": (lambda p: p.write_bytes(b""), "cannot read"),
    "text": (lambda p: p.write_text("not a prior " * 50), "cannot read"),
    "truncated": (lambda p: p.write_bytes(p.read_bytes()[:-9]), "cannot read"),
    "a pickle": (lambda p: torch.save({"a": torch.ones(2)}, p), "cannot read"),
    "foreign": (lambda p: save_file({"weight": torch.ones(3)}, p), "lacks the settings"),
    "foreign metadata": (lambda p: save_file({"weight": torch.ones(3)}, p, {"format": "pt"}), "lacks the settings"),
    "broken settings": (lambda p: rewrite(p, "{"), "lacks the settings"),
    "settings of another type": (lambda p: rewrite(p, "[1]"), "its settings are"),
    "no settings": (lambda p: rewrite(p, "{}"), "do not describe a prior"),
    "another kind": (lambda p: rewrite(p, {"kind": "gan"}), "do not describe a prior"),
    "unknown setting": (lambda p: rewrite(p, {"depth": 3}), "do not describe a prior"),
    "text for a number": (lambda p: rewrite(p, {"hidden": "12"}), "do not describe a prior"),
    "setting out of range": (lambda p: rewrite(p, {"hidden": -1}), "do not describe a prior"),
    "huge": (lambda p: rewrite(p, {"hidden": 10**9}), "do not fit its settings"),
    "beyond all sizes": (lambda p: rewrite(p, {"hidden": 10**30}), "do not describe a prior"),
    "other latents": (lambda p: rewrite(p, {"latent_shape": [4, 8, 8]}), "do not fit its settings"),
    "HI": (lambda p: rewrite(p, '{"kind": "hi", "latent_shape": [4, 8, 6]}'), "do not fit its settings"),
    "a missing weight": (lambda p: rewrite(p, mu__0__weight=None), "mu.0.weight is missing"),
    "one weight too many": (lambda p: rewrite(p, extra=torch.ones(2)), "extra is"),
    "another shape": (lambda p: rewrite(p, mu__0__bias=torch.ones(3)), "mu.0.bias is"),
    "NaN": (lambda p: rewrite(p, mu__0__bias=torch.full((12,), math.nan)), "NaN"),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_refuses_a_damaged_checkpoint(checkpoint: Path, damage: str) -> None:
    apply, message = DAMAGES[damage]
    apply(checkpoint)
    with pytest.raises(PahiError, match=message) as caught:
        load_prior(checkpoint)
    assert caught.value.fix


def test_the_folder_of_a_run_stands_for_its_prior(checkpoint: Path, tmp_path: Path) -> None:
    assert checkpoint.name == "prior.safetensors"
    assert load_prior(checkpoint.parent).config == load_prior(checkpoint).config
    (tmp_path / "empty").mkdir()
    with pytest.raises(ModelError, match="the folder .*/empty holds no prior.safetensors"):
        load_prior(tmp_path / "empty")


def test_saving_replaces_and_refuses_where_it_cannot(checkpoint: Path, tmp_path: Path) -> None:
    mine = checkpoint.with_name(f"{checkpoint.name}.partial")
    mine.write_text("years of work")
    save_prior(HI(SHAPE), checkpoint)
    assert isinstance(load_prior(checkpoint), HI) and mine.read_text() == "years of work"
    with pytest.raises(OutputError, match="nowhere does not exist"):
        save_prior(HI(SHAPE), tmp_path / "nowhere" / "prior.safetensors")


@dataclass
class Reader:
    latent_shape: tuple[int, int, int] = SHAPE
    pooled_width: int = WIDTH


def test_fits_only_its_own_generator() -> None:
    check_fit(pahi(), Reader())
    check_fit(HI(SHAPE), Reader(pooled_width=99))
    with pytest.raises(PahiError, match=r"noise of shape \(4, 8, 6\), the generator reads \(4, 8, 8\)"):
        check_fit(HI(SHAPE), Reader((4, 8, 8)))
    with pytest.raises(PahiError, match="embeddings of width 10, the generator's are 99"):
        check_fit(pahi(), Reader(pooled_width=99))
