"""Everything that a training needs to go on: one safetensors file, its counters in the metadata.

Random numbers have no state to be kept: they depend on the seed and the step.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from pahi_rt.errors import RunError
from pahi_rt.files import explain, writing_whole
from pahi_rt.models.priors import Prior
from pahi_rt.terminal import command

METADATA = "pahi_rt.checkpoint"
"""The one key of the metadata: safetensors writes several in random order, and equal files should be equal."""
_PRIOR, _OPTIMIZER = "prior.", "optimizer."


@dataclass(frozen=True)
class State:
    """The counters of a training."""

    step: int = 0
    """Steps taken."""
    evaluated: int = -1
    """The step of the last evaluation; -1 before the first one."""
    best_step: int = 0
    """The step of the evaluation with the smallest loss."""
    best_loss: float | None = None
    stale: int = 0
    """Evaluations since then."""
    gaussian_scores: dict[str, float] = field(default_factory=dict)
    """Scorer -> mean score of the standard Gaussian on the validation prompts: the generator's and scorers' mark."""


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint as it was read, on the CPU."""

    path: Path
    state: State
    tensors: dict[str, Tensor]
    scaler: dict[str, Any]


def save_checkpoint(
    path: Path, state: State, prior: Prior, optimizer: torch.optim.Optimizer, scaler: torch.amp.GradScaler
) -> None:
    """Write a checkpoint. A kill leaves the whole file or none. Raises OutputError if it cannot be written."""
    tensors = {_PRIOR + name: tensor for name, tensor in prior.state_dict().items()}
    for index, moments in optimizer.state_dict()["state"].items():
        tensors |= {f"{_OPTIMIZER}{index}.{name}": tensor for name, tensor in moments.items()}
    counters = json.dumps({"state": asdict(state), "scaler": scaler.state_dict()}, sort_keys=True)
    try:
        path.parent.mkdir(exist_ok=True)
        with writing_whole(path) as new:
            save_file(tensors, new, metadata={METADATA: counters})
    except (OSError, SafetensorError) as error:
        raise explain(error, path, "and go on with --resume") from error


def read_checkpoint(path: Path) -> Checkpoint:
    """The checkpoint that `save_checkpoint` wrote. Raises PahiError if it is corrupt, or something else."""
    try:
        with safe_open(path, "pt") as file:
            counters = json.loads((file.metadata() or {})[METADATA])
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (it is no dictionary)
        state, scaler = State(**counters["state"]), dict(counters["scaler"])
    except (OSError, SafetensorError, KeyError, TypeError, ValueError) as error:
        raise corrupt(path, repr(error)) from error
    for name, tensor in tensors.items():
        if not tensor.isfinite().all():
            raise corrupt(path, f"{name} holds NaN or infinity")
    return Checkpoint(path, state, tensors, scaler)


def restore_checkpoint(
    checkpoint: Checkpoint, prior: Prior, optimizer: torch.optim.Optimizer, scaler: torch.amp.GradScaler
) -> None:
    """Put `prior`, `optimizer` and `scaler` back where they were. Raises PahiError if the tensors do not fit."""
    try:
        prior.load_state_dict(_strip(checkpoint.tensors, _PRIOR))
    except RuntimeError as error:
        what = f"the checkpoint {checkpoint.path} does not fit the prior: {error}"
        raise RunError(what, fix="put back the generator that this run began with, or train in a new folder") from error
    moments = _moments(checkpoint, optimizer)
    optimizer.load_state_dict({"state": moments, "param_groups": optimizer.state_dict()["param_groups"]})
    scaler.load_state_dict(checkpoint.scaler)


def _moments(checkpoint: Checkpoint, optimizer: torch.optim.Optimizer) -> dict[int, dict[str, Tensor]]:
    """Index of a parameter -> Adam's moments of it, by name. Raises PahiError for those that are of no parameter."""
    moments: dict[int, dict[str, Tensor]] = {}
    known = {str(index) for group in optimizer.state_dict()["param_groups"] for index in group["params"]}
    for name, tensor in _strip(checkpoint.tensors, _OPTIMIZER).items():
        index, _, moment = name.partition(".")
        if index not in known:
            raise corrupt(checkpoint.path, f"there is no parameter for {_OPTIMIZER}{name}")
        moments.setdefault(int(index), {})[moment] = tensor
    return moments


def _strip(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}


def corrupt(path: Path, why: str) -> RunError:
    """What to raise about a checkpoint that cannot be used."""
    fix = f"{command('rm', path)}: the run then goes on from the one before it, or from the start if there is none"
    return RunError(f"the checkpoint {path} is corrupt: {why}", fix=fix)
