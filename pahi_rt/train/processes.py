"""The processes that train one prior together, through Hugging Face Accelerate.

    accelerate launch $(which pahi-rt) train ...

Every process has the whole generator and the whole prior. The samples of a step are shared out, and what comes of
them is summed: a prior has a few million parameters, so one sum per step is all that there is to it.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from accelerate import PartialState
from accelerate.utils import broadcast, gather, parse_flag_from_env, reduce
from torch import Tensor, nn


@dataclass(frozen=True)
class Processes:
    """This process among its peers; by default, alone on the CPU."""

    device: torch.device = torch.device("cpu")
    rank: int = 0
    world: int = 1

    @property
    def is_main(self) -> bool:
        """Whether this is the one that writes files and talks to the user."""
        return self.rank == 0

    def share(self, count: int) -> range:
        """Which of `count` samples are this process's: neighbours, so that one process alone has the same batches."""
        return range(count * self.rank // self.world, count * (self.rank + 1) // self.world)

    def sum(self, tensor: Tensor) -> Tensor:
        """The sum of every process's `tensor`, which must be of the same shape in all."""
        return reduce(tensor, "sum") if self.world > 1 else tensor

    def least(self, number: int) -> int:
        """The smallest `number` of any process."""
        return int(gather(torch.tensor([number], device=self.device)).min()) if self.world > 1 else number

    def copy_main(self, module: nn.Module) -> None:
        """Give every process the parameters and buffers that `module` has in the main one."""
        if self.world > 1:
            with torch.no_grad():
                for tensor in (*module.parameters(), *module.buffers()):
                    tensor.copy_(broadcast(tensor.detach().clone()))


def join_processes() -> Processes:
    """What `accelerate launch` or `torchrun` started, or else this process alone, on its GPU if there is one."""
    # Without GPUs, Accelerate takes each process for the only one unless it is told that the CPU is meant.
    cpu = parse_flag_from_env("ACCELERATE_USE_CPU") or not torch.accelerator.is_available()
    state = PartialState(cpu=cpu)
    return Processes(state.device, state.process_index, state.num_processes)


def leave_processes() -> None:
    """End the connection between processes, at the end of a program."""
    PartialState().destroy_process_group()
