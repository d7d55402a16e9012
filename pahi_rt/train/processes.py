"""The processes that train one prior together, through Hugging Face Accelerate.

    accelerate launch $(which pahi-rt) train ...

Every process has the whole generator and the whole prior. The samples of a step are split among the processes, and
their gradients are summed: a prior has only a few million parameters, so one sum per step is enough.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from accelerate import PartialState
from accelerate.utils import broadcast, gather, parse_flag_from_env, reduce
from torch import Tensor, nn


@dataclass(frozen=True)
class Processes:
    """This process and how many there are; by default, a single one on the CPU."""

    device: torch.device = torch.device("cpu")
    rank: int = 0
    world: int = 1

    @property
    def is_main(self) -> bool:
        """Whether this process writes files and talks to the user."""
        return self.rank == 0

    def share(self, count: int) -> range:
        """This process's part of `count` samples. It is contiguous, so that any number of processes has the same
        batches."""
        return range(count * self.rank // self.world, count * (self.rank + 1) // self.world)

    def sum(self, tensor: Tensor) -> Tensor:
        """The sum of `tensor` over all processes; its shape must be the same in all."""
        return reduce(tensor, "sum") if self.world > 1 else tensor

    def least(self, number: int) -> int:
        """The smallest `number` over all processes."""
        return int(gather(torch.tensor([number], device=self.device)).min()) if self.world > 1 else number

    def copy_main(self, module: nn.Module) -> None:
        """Copy the parameters and buffers of `module` from the main process to all others."""
        if self.world > 1:
            with torch.no_grad():
                for tensor in (*module.parameters(), *module.buffers()):
                    tensor.copy_(broadcast(tensor.detach().clone()))


def join_processes() -> Processes:
    """The processes that `accelerate launch` or `torchrun` started, else this one alone, on a GPU if there is one."""
    # Without GPUs, Accelerate treats every process as the only one unless it is told to use the CPU.
    cpu = parse_flag_from_env("ACCELERATE_USE_CPU") or not torch.accelerator.is_available()
    state = PartialState(cpu=cpu)
    return Processes(state.device, state.process_index, state.num_processes)


def leave_processes() -> None:
    """Close the connection between processes, at the end of a program."""
    PartialState().destroy_process_group()
