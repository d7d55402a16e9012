"""Learned priors over the noise: HI has one Gaussian for all prompts, PAHI one for each prompt (paper, section 3.2).

    prior(pooled) -> Gaussian(mu, sigma) -> sample_noise(gaussian, eps) -> x_T

A checkpoint is one safetensors file. Its metadata holds the settings to build the prior from.
"""

from __future__ import annotations

import json
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import Any, Literal, Protocol, get_args

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from pahi_rt.errors import ModelError
from pahi_rt.files import explain, writing_whole
from pahi_rt.models.foreign import foreign, reason
from pahi_rt.models.gaussians import Gaussian, LatentShape, Parametrisation

Init = Literal["pretrain", "zero"]

METADATA = "pahi_rt.prior"
"""The only key of a checkpoint's metadata. (safetensors writes several in random order: equal priors would differ.)"""
FILE = "prior.safetensors"
"""Name of the best prior in a run folder."""
_refuse = partial(ModelError, fix="give a prior that `pahi-rt train` wrote")


class Prior(nn.Module):
    """Base of HI and PAHI: pooled text embeddings [B, P] -> Gaussians over [B, C, h, w]."""

    kind: str
    pooled_width: int | None = None
    """P, the width of the embeddings; None for a prior that does not read them."""

    def __init__(self, latent_shape: LatentShape, sigma_bound: float | None, low_frequency: int | None) -> None:
        super().__init__()
        self.parametrisation = Parametrisation(latent_shape, sigma_bound, low_frequency)

    @property
    def latent_shape(self) -> LatentShape:
        """Channels, height and width of the noise."""
        return self.parametrisation.latent_shape

    @property
    def config(self) -> dict[str, Any]:
        """The settings to build this prior from, as JSON: its kind and the arguments of its constructor."""
        shape = self.parametrisation
        return {
            "kind": self.kind,
            "latent_shape": list(shape.latent_shape),
            "sigma_bound": shape.sigma_bound,
            "low_frequency": shape.low_frequency,
        }

    def numbers(self, pooled: Tensor) -> tuple[Tensor, Tensor]:
        """Pooled embeddings [B, P] -> the vectors that the parametrisation reads, [B, size] for mu and for sigma."""
        raise NotImplementedError

    def forward(self, pooled: Tensor) -> Gaussian:
        """Pooled embeddings [B, P] -> the Gaussian of each prompt, in float32 even under autocast.

        bfloat16 has 8 bits of precision: around sigma = 1 its steps are 1/128.
        """
        device = pooled.device.type
        # No context at all without autocast: an exported graph would contain the switch.
        is_autocast = torch.is_autocast_enabled(device)
        with torch.autocast(device, enabled=False) if is_autocast else nullcontext():
            gaussian: Gaussian = self.parametrisation(*self.numbers(pooled.float()))
        return gaussian


class HI(Prior):
    """Human Preference Inversion, eqs. (3)-(6): one mu and one sigma for all prompts.

    Starts at exactly the standard Gaussian. Of the pooled embeddings only their number is used.
    Raises ModelError for settings out of range.
    """

    kind = "hi"

    def __init__(
        self, latent_shape: LatentShape, *, sigma_bound: float | None = None, low_frequency: int | None = None
    ) -> None:
        super().__init__(latent_shape, sigma_bound, low_frequency)
        mu, sigma = self.parametrisation.standard()
        self.mu = nn.Parameter(mu)
        self.sigma = nn.Parameter(sigma)

    def numbers(self, pooled: Tensor) -> tuple[Tensor, Tensor]:
        batch = pooled.shape[0]
        return self.mu.expand(batch, -1), self.sigma.expand(batch, -1)


class PAHI(Prior):
    """Prompt Adaptive Human Preference Inversion, eqs. (7)-(9): g_psi, two 2-layer MLPs on the pooled text embedding.

    The paper gives neither width nor activation. With 144 hidden units SD-Turbo's prior (1024 -> 144 -> 16384, twice)
    has 5.05 million parameters, the paper's "5 million". SiLU is the activation of the UNet's own 2-layer MLP for the
    timestep.

    `init="pretrain"` starts at PyTorch's random weights; eq. (10) then moves the prior near the standard Gaussian.
    `init="zero"`, beyond the paper, starts at exactly the standard Gaussian for every prompt: the last layers' weights
    are zero, and their biases give mu = 0 and sigma = 1. In a trial eq. (10) left hundreds of nats on unseen prompts.

    `sigma_bound`, `low_frequency`: see Parametrisation. Raises ModelError for settings out of range.
    """

    kind = "pahi"
    feature_mean: Tensor
    feature_std: Tensor

    def __init__(
        self,
        pooled_width: int,
        latent_shape: LatentShape,
        hidden: int = 144,
        *,
        init: Init = "pretrain",
        sigma_bound: float | None = None,
        low_frequency: int | None = None,
    ) -> None:
        super().__init__(latent_shape, sigma_bound, low_frequency)
        self.pooled_width = _check_count(pooled_width, "features of a pooled embedding")
        self.hidden = _check_count(hidden, "hidden units of a prior")
        if init not in get_args(Init):
            raise ModelError(f"no way to start a prior is named {init!r}", fix=f"use {' or '.join(get_args(Init))}")
        self.init = init
        self.register_buffer("feature_mean", torch.zeros(pooled_width))
        self.register_buffer("feature_std", torch.ones(pooled_width))
        self.mu = two_layers(pooled_width, hidden, self.parametrisation.size)
        self.sigma = two_layers(pooled_width, hidden, self.parametrisation.size)
        if init == "zero":
            for network, constant in zip((self.mu, self.sigma), self.parametrisation.standard(), strict=True):
                last = network[-1]
                with torch.no_grad():
                    last.get_parameter("weight").zero_()
                    last.get_parameter("bias").copy_(constant)

    @property
    def config(self) -> dict[str, Any]:
        return super().config | {"pooled_width": self.pooled_width, "hidden": self.hidden, "init": self.init}

    def fit_features(self, pooled: Tensor) -> None:
        """Standardise every feature by its mean and standard deviation over the training prompts' embeddings [N, P].

        Until this is called, embeddings are read unscaled, as in the paper. CLIP's pooled states have a few features
        that are many times larger than the rest, or a common offset, and an MLP at its first learning rate sees little
        else. Raises ModelError for embeddings of another width, with NaN or infinity, or all equal.
        """
        check_embeddings(self, pooled)
        std = pooled.float().std(0, correction=0)
        if not std.any():
            raise ModelError("all training prompts have the same embedding", fix="give prompts that differ")
        with torch.no_grad():
            self.feature_mean.copy_(pooled.float().mean(0))
            # A feature that hardly varies on these prompts may vary on others, where it must not dominate the rest.
            self.feature_std.copy_(std.clamp_min(std.mean() / 100))

    def read_features(self, pooled: Tensor) -> Tensor:
        """Pooled embeddings [B, P] -> the standardised features [B, P] that the networks read."""
        return (pooled - self.feature_mean) / self.feature_std

    def numbers(self, pooled: Tensor) -> tuple[Tensor, Tensor]:
        features = self.read_features(pooled)
        return self.mu(features), self.sigma(features)


PRIORS: dict[str, type[Prior]] = {kind.kind: kind for kind in (HI, PAHI)}


def two_layers(inputs: int, hidden: int, outputs: int) -> nn.Sequential:
    """The paper's 2-layer MLP, [B, inputs] -> [B, outputs]."""
    return nn.Sequential(nn.Linear(inputs, hidden), nn.SiLU(), nn.Linear(hidden, outputs))


def save_prior(prior: Prior, path: str | Path) -> None:
    """Write `prior` as safetensors, with its settings in the metadata. A kill leaves the old file or the new one.

    Raises OutputError if the file cannot be written.
    """
    path = Path(path)
    try:
        with writing_whole(path) as new:
            save_file(prior.state_dict(), new, metadata={METADATA: json.dumps(prior.config, sort_keys=True)})
    except (OSError, SafetensorError) as error:
        raise explain(error, path, "or choose another place") from error


def load_prior(path: str | Path) -> Prior:
    """Load the prior that `save_prior` wrote, bit for bit, on the CPU. Does not change PyTorch's random state.

    `path` is a file, or a run folder. Raises ModelError for a file that is missing, corrupt, not a prior, or whose
    weights do not fit its settings.
    """
    path = find_prior(path)
    config, tensors = _read_checkpoint(path)
    try:
        # On the meta device first: a damaged size is then an error, not an attempt to allocate that much memory.
        with torch.device("meta"):
            expected = _build(config).state_dict()
    except Exception as error:
        raise _refuse(f"the settings in {path} do not describe a prior: {reason(error)}") from error
    _check_tensors(path, tensors, {name: tensor.shape for name, tensor in expected.items()})
    with torch.random.fork_rng(devices=[]):
        prior = _build(config)
    prior.load_state_dict(tensors)
    return prior


def find_prior(path: str | Path) -> Path:
    """`path` itself if it is a file, or the best prior in the run folder `path`. Raises ModelError if there is none."""
    path = Path(path)
    found = path / FILE if path.is_dir() else path
    if not found.is_file():
        what = f"the folder {path} holds no {FILE}" if path.is_dir() else f"no prior at {path}"
        raise _refuse(what)
    return found


class NoiseReader(Protocol):
    """The shapes that a prior must fit: those of a Generator, or of a bundle's description of one."""

    @property
    def latent_shape(self) -> LatentShape: ...

    @property
    def pooled_width(self) -> int: ...


def check_fit(prior: Prior, generator: NoiseReader) -> None:
    """Raises ModelError unless the prior's noise and embeddings have the shapes of the generator's."""
    fix = "train a prior for this generator, or name the generator that the prior was trained with"
    if prior.latent_shape != tuple(generator.latent_shape):
        what = f"the prior makes noise of shape {prior.latent_shape}, the generator reads {generator.latent_shape}"
        raise ModelError(what, fix=fix)
    if prior.pooled_width not in (None, generator.pooled_width):
        what = f"the prior reads embeddings of width {prior.pooled_width}, the generator's are {generator.pooled_width}"
        raise ModelError(what, fix=fix)


def check_embeddings(prior: Prior, pooled: Tensor) -> None:
    """Raises ModelError unless `pooled` holds finite embeddings [N, P] of the width that `prior` reads, N >= 1."""
    if pooled.dim() != 2 or not len(pooled) or pooled.shape[1] != prior.pooled_width:
        what = f"embeddings of shape {list(pooled.shape)} do not fit a prior that reads [N, {prior.pooled_width}]"
        raise ModelError(what, fix="pool the prompts with the text encoder of the generator that the prior is for")
    if not pooled.isfinite().all():
        what = "the text encoder gives NaN or infinity for a prompt"
        raise ModelError(what, fix="run it in float32, and check its weights")


def _build(config: dict[str, Any]) -> Prior:
    arguments = dict(config)
    kind = PRIORS[arguments.pop("kind")]
    return kind(**arguments | {"latent_shape": tuple(arguments["latent_shape"])})


def _read_checkpoint(path: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    with foreign(f"the prior {path}", _refuse), safe_open(path, "pt") as file:
        metadata = file.metadata() or {}
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dictionary)
    try:
        config = json.loads(metadata[METADATA])
    except (KeyError, ValueError, RecursionError) as error:
        raise _refuse(f"{path} is not a prior: it lacks the settings of one") from error
    if not isinstance(config, dict):
        raise _refuse(f"{path} is not a prior: its settings are {config!r}")
    return config, tensors


def _check_tensors(path: str | Path, tensors: dict[str, Tensor], shapes: dict[str, torch.Size]) -> None:
    for name in sorted(tensors.keys() | shapes.keys()):
        found = list(tensors[name].shape) if name in tensors else "missing"
        wanted = list(shapes[name]) if name in shapes else "none"
        if found != wanted:
            what = f"the weights in {path} do not fit its settings: {name} is {found} and should be {wanted}"
            raise _refuse(what)
        if not tensors[name].isfinite().all():
            raise ModelError(f"{name} in {path} holds NaN or infinity", fix="take an earlier checkpoint of that run")


def _check_count(count: int, what: str) -> int:
    if count < 1:
        raise ModelError(f"{count} {what} are too few", fix="use at least 1")
    return count
