"""The training loop that all stages share.

There is one process per core, with one thread each, and they average their weights every SYNC steps. The reasons: two
OpenMP threads fall to a sixth of their speed when another program runs, and averaging gradients at every step takes a
sixth of the time. Random numbers depend only on (seed, step, rank), so that a resumed run ends with the same weights as
one that was never killed.
"""

from __future__ import annotations

import copy
import json
import os
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import nn
from torch.multiprocessing.spawn import start_processes
from torch.nn.attention import SDPBackend, sdpa_kernel

from pahi_rt.errors import PahiError
from pahi_rt.files import writing_whole
from pahi_rt.machine import has_bfloat16
from pahi_rt.train.metrics_log import forget_after

Losses = dict[str, torch.Tensor]
SYNC = 10
"""Steps between averagings of weights and Adam moments. Checkpoints fall on these steps."""


@dataclass(frozen=True)
class Schedule:
    """Length, batch and learning rate of a training stage."""

    steps: int
    batch: int
    """Samples of one step over all workers."""
    learning_rate: float
    warmup: int = 200
    decay: float = 0.3
    """Share of the steps, at the end, over which the rate falls linearly to zero."""
    ema: float = 0.995
    """Decay of the moving average of the weights."""
    save_every: int = 200
    sample_every: int = 1000
    bfloat16: bool = False
    """Whether matrices are multiplied in bfloat16, on processors that have instructions for it."""

    def rate(self, step: int) -> float:
        """The learning rate at `step`: rises over `warmup` steps, and falls at the end."""
        falling = (self.steps - step) / max(1.0, self.decay * self.steps)
        return self.learning_rate * min(1.0, (step + 1) / self.warmup, falling)


@dataclass(frozen=True)
class Worker:
    """One process of a stage: number `rank` of `world`."""

    rank: int = 0
    world: int = 1
    seed: int = 0

    def rng(self, step: int) -> torch.Generator:
        """The RNG of one step of this worker."""
        return torch.Generator().manual_seed((self.seed * 1_000_003 + step) * 64 + self.rank)


class Trainer:
    """Adam over `modules`, with an exponential moving average of the weights and exact resumption."""

    def __init__(self, folder: Path, modules: nn.ModuleDict, schedule: Schedule, worker: Worker) -> None:
        self.folder, self.modules, self.schedule, self.worker = folder, modules, schedule, worker
        self.parameters = [p for p in modules.parameters() if p.requires_grad]
        self.optimizer = _adam(self.parameters)
        self.ema = copy.deepcopy(modules).eval().requires_grad_(False)
        self.step = 0
        folder.mkdir(parents=True, exist_ok=True)
        self._resume()

    def run(self, loss: Callable[[int, torch.Generator], Losses], sample: Callable[[int], None]) -> None:
        """Train to the end of the schedule. `loss(step, rng)` gives named terms, which are summed; `sample(step)` saves
        example pictures."""
        started, first = time.perf_counter(), self.step
        while self.step < self.schedule.steps:
            # On a CPU, the backward pass of the flash kernel takes 29 % of a UNet's step. Without it, a step takes a
            # fifth less time.
            with sdpa_kernel(SDPBackend.MATH):
                with bfloat16(self.schedule.bfloat16):
                    rng = self.worker.rng(self.step)
                    torch.manual_seed(rng.initial_seed())  # dropout draws from PyTorch's own generator
                    losses = loss(self.step, rng)
                sum(losses.values(), torch.zeros(())).backward()
            self._update()
            if self.worker.rank == 0:
                rate = (self.step + 1 - first) * self.schedule.batch / (time.perf_counter() - started)
                self._report(losses, rate, sample)
            self.step += 1

    def _update(self) -> None:
        nn.utils.clip_grad_norm_(self.parameters, 1.0)
        for group in self.optimizer.param_groups:
            group["lr"] = self.schedule.rate(self.step)
        self.optimizer.step()
        self.optimizer.zero_grad()
        if self.worker.world > 1 and ((self.step + 1) % SYNC == 0 or self.step + 1 == self.schedule.steps):
            self._average()
        # A short memory at first; otherwise the average would contain the initial weights for a long time.
        keep = min(self.schedule.ema, (self.step + 1) / (self.step + 10))
        with torch.no_grad():
            torch._foreach_lerp_(list(self.ema.parameters()), list(self.modules.parameters()), 1 - keep)

    def _average(self) -> None:
        """Replace weights and moments by their mean over the workers."""
        moments = [m for state in self.optimizer.state.values() for m in (state["exp_avg"], state["exp_avg_sq"])]
        tensors = [*(p.data for p in self.parameters), *moments]
        flat = torch.cat([t.flatten() for t in tensors])
        dist.all_reduce(flat)
        flat /= self.worker.world
        parts = flat.split([t.numel() for t in tensors])
        torch._foreach_copy_(tensors, [part.view_as(t) for part, t in zip(parts, tensors, strict=True)])

    def _report(self, losses: Losses, rate: float, sample: Callable[[int], None]) -> None:
        done = self.step + 1
        last = done == self.schedule.steps
        if done % 50 == 0 or last:
            row = {"step": done, **{k: round(v.item(), 5) for k, v in losses.items()}, "samples_per_s": round(rate, 1)}
            with (self.folder / "metrics.jsonl").open("a") as file:
                file.write(json.dumps(row) + "\n")
            left = (self.schedule.steps - done) * self.schedule.batch / rate / 60
            print(f"{self.folder.name} {json.dumps(row)} {left:.0f} min left", flush=True)
        if done % self.schedule.save_every == 0 or last:
            self._save(done)
        if done % self.schedule.sample_every == 0 or last:
            sample(done)

    def _save(self, done: int) -> None:
        state = {
            "step": done,
            "modules": self.modules.state_dict(),
            "ema": self.ema.state_dict(),
            "optimizer": self.optimizer.state_dict(),
        }
        save_atomically(state, _checkpoint(self.folder))

    def _resume(self) -> None:
        path = _checkpoint(self.folder)
        if path.exists():
            state = torch.load(path, weights_only=True)
            self.step = state["step"]
            self.modules.load_state_dict(state["modules"])
            self.ema.load_state_dict(state["ema"])
            self.optimizer.load_state_dict(state["optimizer"])
        if self.worker.rank == 0:
            # Steps that a killed run logged after its last checkpoint are taken again.
            forget_after(self.folder / "metrics.jsonl", self.step, 0)


def bfloat16(enabled: bool) -> torch.autocast:
    """Convolutions and products in bfloat16, in half the time, if `enabled` and the processor has instructions for it.

    Other processors emulate them, and would take minutes for a step.
    """
    return torch.autocast("cpu", torch.bfloat16, enabled=enabled and has_bfloat16())


def spawn(stage: Callable[..., None], workers: int, seed: int, *arguments: Any) -> None:
    """Run `stage(worker, *arguments)` in one single-threaded process per worker."""
    # A process of a fork server ends without Python's finalization. There, a thread of gloo that frees its last tensor
    # sometimes aborts the process (seen once in CI, after a run that had finished).
    start_processes(_enter, (stage, workers, seed, _free_port(), arguments), workers, start_method="forkserver")


def restore(modules: nn.ModuleDict, step: int, folder: Path) -> None:
    """Write a checkpoint as if a stage had reached `step` with these weights, with Adam's moments at 0."""
    weights = modules.state_dict()
    optimizer = _adam(list(modules.parameters())).state_dict()
    folder.mkdir(parents=True, exist_ok=True)
    save_atomically({"step": step, "modules": weights, "ema": weights, "optimizer": optimizer}, _checkpoint(folder))


def steps_done(folder: Path) -> int:
    """The step of a stage's checkpoint; 0 without one."""
    path = _checkpoint(folder)
    return int(torch.load(path, weights_only=True, mmap=True)["step"]) if path.exists() else 0


def _checkpoint(folder: Path) -> Path:
    return folder / "checkpoint.pt"


def _adam(parameters: list[nn.Parameter]) -> torch.optim.Adam:
    return torch.optim.Adam(parameters, betas=(0.9, 0.99), fused=True)


def _enter(rank: int, stage: Callable[..., None], world: int, seed: int, port: int, arguments: tuple[Any, ...]) -> None:
    torch.set_num_threads(1)
    torch.manual_seed(seed)
    if world > 1:
        os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
        dist.init_process_group("gloo", rank=rank, world_size=world)
    try:
        stage(Worker(rank, world, seed), *arguments)
    finally:
        if dist.is_initialized():
            dist.destroy_process_group()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def averaged(folder: Path, module: str) -> dict[str, torch.Tensor]:
    """Load the moving average of a module's weights from a stage's checkpoint. Raises PahiError if there is none."""
    state = torch.load(left_by(folder.name, _checkpoint(folder)), weights_only=True)["ema"]
    return {k.removeprefix(f"{module}."): value for k, value in state.items() if k.startswith(f"{module}.")}


def left_by(stage: str, path: Path) -> Path:
    """`path` itself. If it does not exist, raises a PahiError that names the stage that makes it."""
    if not path.exists():
        raise PahiError(f"{path} is not there", fix=f"python -m emoji_model {stage}")
    return path


def save_atomically(state: Any, path: Path) -> None:
    """`torch.save` to a temporary file, then rename it. A kill leaves the old file or the new one."""
    with writing_whole(path) as new:
        torch.save(state, new)
