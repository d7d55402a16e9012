"""Saves and restores a training: prior and optimizer in one safetensors file, the counters in its metadata.

The state of random numbers is not saved: they depend only on the seed and the step.
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
"""The only key of the metadata. (safetensors writes several in random order: files of equal content would differ.)"""
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
    """Evaluations since `best_step`."""
    gaussian_scores: dict[str, float] = field(default_factory=dict)
    """Scorer -> mean score of the standard Gaussian on the validation prompts. A resumed run compares it, to notice
    another generator or scorer."""
    running: dict[str, Any] = field(default_factory=dict)
    """The fields of `gradients.Running`."""


@dataclass(frozen=True)
class Checkpoint:
    """The content of a checkpoint file, on the CPU."""

    path: Path
    state: State
    tensors: dict[str, Tensor]
    scaler: dict[str, Any]


def save_checkpoint(
    path: Path, state: State, prior: Prior, optimizer: torch.optim.Optimizer, scaler: torch.amp.GradScaler
) -> None:
    """Write a checkpoint. A kill leaves a complete file or none. Raises OutputError if it cannot be written."""
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
    """Read a checkpoint that `save_checkpoint` wrote. Raises RunError if it is corrupt, or another kind of file."""
    try:
        with safe_open(path, "pt") as file:
            counters = json.loads((file.metadata() or {})[METADATA])
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dictionary)
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
    """Restore `prior`, `optimizer` and `scaler` in place. Raises RunError if the tensors do not fit them."""
    try:
        prior.load_state_dict(_strip(checkpoint.tensors, _PRIOR))
    except RuntimeError as error:
        what = f"the checkpoint {checkpoint.path} does not fit the prior: {error}"
        raise RunError(what, fix="put back the generator that this run began with, or train in a new folder") from error
    moments = _moments(checkpoint, optimizer)
    optimizer.load_state_dict({"state": moments, "param_groups": optimizer.state_dict()["param_groups"]})
    scaler.load_state_dict(checkpoint.scaler)


def _moments(checkpoint: Checkpoint, optimizer: torch.optim.Optimizer) -> dict[int, dict[str, Tensor]]:
    """Index of a parameter -> its Adam moments by name. Raises RunError for moments without a parameter."""
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
    """The error about a checkpoint that cannot be used."""
    fix = f"{command('rm', path)}: the run then goes on from the one before it, or from the start if there is none"
    return RunError(f"the checkpoint {path} is corrupt: {why}", fix=fix)
